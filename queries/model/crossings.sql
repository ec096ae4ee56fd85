-- Every connection between clusters with what became of its addresses.
--   class: untranslated | masquerade | between | nodeport | destination-translated | one-sided | ambiguous
-- A call that left in the last second of what was read may have arrived after it, and says nothing; toward a cluster with
-- a node that was out of sight to the end it is one-sided: the node would have had to show it.
create or replace macro nat_crossings_between(since, until, only_namespace, only_service) as table
with
last_second as materialized (
    select last_second_ns(since, until) as ns
),
blind_at_end as materialized (
    select cluster from watched_nodes(since, until) where not watched and agent
    union
    select cluster from gaps_between(since, until) where epoch_ns(end_time) > (select ns from last_second)
)
select
    *,
    client_cluster as source_cluster, server_cluster as destination_cluster,
    case
        when translation = 'source' then if(translated_by in ('masquerade', 'between'), translated_by, 'nodeport')
        when outcome in ('one-sided', 'cut-off') then 'one-sided'
        when translation = 'unknown' then 'ambiguous'
        when translation = 'destination' then 'destination-translated'
        else 'untranslated'
    end as class
from connections_asked(since, until)
where (outcome in ('arrived', 'one-sided') or outcome = 'cut-off' and server_cluster in (from blind_at_end)) and client_cluster is distinct from server_cluster and server_cluster is not null
    and (only_namespace is null and only_service is null or exists (
        from backends b
        where b.address = server_address and (b.port = server_port or b.port is null)
            and (only_namespace is null or b.namespace = only_namespace) and (only_service is null or b.service = only_service)
    ));
