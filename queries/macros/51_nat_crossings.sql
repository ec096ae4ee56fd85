-- Every connection between clusters with what became of its addresses.
--   class: untranslated | masquerade | nodeport | destination-translated | one-sided | ambiguous
create or replace macro nat_crossings_between(since, until, only_namespace, only_service) as table
select
    *,
    client_cluster as source_cluster, server_cluster as destination_cluster,
    case
        when translation = 'source' then if(translated_by = 'masquerade', 'masquerade', 'nodeport')
        when outcome = 'one-sided' then 'one-sided'
        when translation = 'unknown' then 'ambiguous'
        when translation = 'destination' then 'destination-translated'
        else 'untranslated'
    end as class
from connections_between(since, until)
where outcome in ('arrived', 'one-sided') and client_cluster is distinct from server_cluster and server_cluster is not null
    and (only_namespace is null and only_service is null or exists (
        from backends b
        where b.address = server_address and (b.port = server_port or b.port is null)
            and (only_namespace is null or b.namespace = only_namespace) and (only_service is null or b.service = only_service)
    ));
