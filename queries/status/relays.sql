-- The Relays as they last answered, and until when the Kubernetes objects of the cluster of that name were watched.
create or replace view status_relays as
with latest as (
    from relays qualify row_number() over (partition by reader order by time desc) = 1
),
known as (
    select
        reader, cluster, count(*) filter (state = 'NODE_CONNECTED') || '/' || count(*) as nodes
    from (from relay_nodes qualify row_number() over (partition by reader, cluster, node order by time desc) = 1)
    group by all
)
select
    l.reader as relay, l.address, l.version, l.connected, l.unavailable,
    (select string_agg(k.cluster || ' ' || k.nodes, ', ' order by k.cluster) from known k where k.reader = l.reader) as nodes_of,
    round(l.flows_rate, 1) as flows_per_s, l.certificate_expires, l.time as asked,
    (select until from watches w where w.cluster = l.reader) as objects_until
from latest l
order by 1;
