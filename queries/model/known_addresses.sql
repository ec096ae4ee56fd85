-- Whose addresses flows tell, hour by hour.

-- What flows tell of addresses.
--   kind:  pod (and whose) | host (a node's own) | proxy (Cilium's Envoy, which calls for clients of Ingresses and Gateways)
create or replace macro addresses_told(since, until) as table
from (
    select 'pod' as kind, hour_of(ns) as hour, unnest([source, destination]) as address, unnest([source_cluster, destination_cluster]) as cluster, '' as node
    from (
        select ns, source, source_cluster, destination, cluster as destination_cluster from arrivals(since, until)
        union all
        select ns, source, cluster, destination, destination_cluster from departures(since, until)
        union all
        select ns, source, cluster, destination, destination_cluster from other_departures(since, until)
        union all
        select ns, source, source_cluster, destination, destination_cluster from drops(since, until)
    )
    union
    select 'host', hour_of(ns), source, cluster, node from host_departures(since, until)
    union
    select 'proxy', hour, address, '', '' from proxy_addresses(since, until)
)
where cluster <> '' or kind = 'proxy';

-- What is known of addresses in the hours of a window: what is stored, and what flows between the other two times tell.
create or replace macro addresses_known(since, until, told_since, told_until) as table
select distinct kind, unnest([hour - 1, hour, hour + 1]) as hour, address, cluster, node
from (
    from addresses_told(told_since, told_until)
    union all
    from known_addresses where hour between hour_of(epoch_ns(since)) - 1 and hour_of(epoch_ns(until)) + 1
);
