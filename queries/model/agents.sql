-- Nodes on which Cilium's agent does not run, so that no flow of theirs can come: those whose Node says so, and those
-- without a CiliumNode where CiliumNodes of their cluster are known. Whatever a Relay names has an agent.
create or replace view nodes_without_agent as
with told as (
    select cluster, kind, name as node, max(nullif(state ->> 'runs_no_agent', '')) as reason
    from object_periods
    where kind in ('Node', 'CiliumNode') and not deleted
    group by all
)
select n.cluster, n.node, coalesce(n.reason, 'no CiliumNode') as reason
from told n
where n.kind = 'Node'
    and not exists (from told c where c.kind = 'CiliumNode' and c.cluster = n.cluster and c.node = n.node)
    and (n.reason is not null or exists (from told c where c.kind = 'CiliumNode' and c.cluster = n.cluster));

-- Addresses of backends on nodes without agent.
create or replace view backends_without_agent as
select address, any_value(cluster || '/' || node) as node
from backends
join nodes_without_agent using (cluster, node)
group by address;
