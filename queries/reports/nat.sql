-- Is any traffic between clusters translated, where, to what, and why?
-- One row per pair of clusters and protocol; untranslated + translated + destination_translated + one_sided + ambiguous
-- are all connections that crossed. source_cluster is the originating client's, '' = outside the mesh (such rows do not
-- count for the verdict). What the server's node saw is what the server saw; the client's node decides nothing.
--   since, until:  the window (default: the last run; whole := true for everything)
--   max_unproved:  the share of one-sided, ambiguous or lost ones above which nothing is said
create or replace macro report_nat(
    since := null::timestamp_ns, until := null::timestamp_ns, whole := false, max_unproved := 0.01,
    only_namespace := null::varchar, only_service := null::varchar
) as table
with
crossings as materialized (
    from nat_crossings_between(window_since(since, whole), window_until(since, until, whole), only_namespace, only_service)
),
lost as materialized (
    select coalesce(sum(events), 0) as events from losses_between(window_since(since, whole), window_until(since, until, whole))
),
holes as materialized (
    from holes_between(window_since(since, whole), window_until(since, until, whole), max_unproved)
),
-- Ranges that two clusters share, as far as pods of theirs are in them.
told_addresses as materialized (
    select distinct 0 as hour, server_address as address, server_cluster as cluster from crossings
    union
    select 0, client_address, client_cluster from crossings where client_kind = 'pod'
),
used as materialized (from used_addresses('told_addresses')),
ranges as materialized (from used_ranges('used')),
shared_ranges as materialized (from overlaps_of('ranges')),
to_spare as materialized (
    select cluster, shortened(list_sort(list(distinct cidr)), 8) as cidrs
    from (select cluster, unnest(pod_cidrs) as cidr from nodes) n
    join ranges r using (cluster)
    where host_bits(cidr) > 0 and address_number(split_part(cidr, '/', 1)) = r.first
    group by cluster
),
-- Of each pair what is in ranges of both; of what came from outside, what is in ranges of any two.
doubtful as materialized (
    select c.source_cluster, c.destination_cluster, c.protocol, any_value(o.cluster) as one, any_value(o.other) as other, min(c.address) as address
    from (
        select distinct source_cluster, destination_cluster, protocol, unnest([client_address, seen_address, if(source_cluster = '', null, server_address)]) as address
        from crossings
        where (select count(*) from shared_ranges) > 0
    ) c
    join shared_ranges o
        on address_number(c.address) between o.first and o.last and (c.source_cluster = '' or o.cluster = c.source_cluster and o.other = c.destination_cluster)
    group by all
),
-- Why what left may not have been seen to arrive.
agentless as materialized (
    select c.source_cluster, c.destination_cluster, c.protocol, string_agg(distinct b.node, ', ' order by b.node) as nodes
    from crossings c
    join backends_without_agent b on b.address = c.server_address
    where c.class = 'one-sided'
    group by all
),
losses as materialized (
    select cluster, sum(events) as events, string_agg(cluster || '/' || node, ', ' order by node) as nodes
    from losses_between(window_since(since, whole), window_until(since, until, whole))
    group by cluster
),
counted as (
    select
        source_cluster, destination_cluster, protocol,
        count(*) as connections,
        count(*) filter (class = 'untranslated') as untranslated,
        count(*) filter (class in ('masquerade', 'between', 'nodeport')) as translated,
        count(*) filter (class = 'destination-translated') as destination_translated,
        count(*) filter (class = 'one-sided') as one_sided,
        count(*) filter (class = 'ambiguous') as ambiguous,
        count(*) filter (class = 'masquerade') as masqueraded,
        count(*) filter (class = 'between') as between_clusters,
        list_sort(list(distinct seen_address) filter (class = 'masquerade' and seen_address is not null)) as masqueraded_as,
        list_sort(list(distinct seen_address) filter (class = 'between')) as between_as,
        list(distinct seen_address) filter (class = 'ambiguous') as ambiguous_as,
        list_sort(list(distinct end_name(client_namespace, client_pod, client_address)) filter (class = 'between')) as between_clients,
        count(*) filter (class = 'untranslated' and client_kind = 'ingress') as proxied,
        list_sort(list(distinct seen_address) filter (class = 'untranslated' and client_kind = 'ingress')) as proxies,
        list_sort(list(distinct seen_address) filter (translation = 'source' and seen_address is not null)) as seen_as,
        list_sort(list(distinct end_name(client_namespace, client_pod, client_address)) filter (class = 'masquerade')) as hidden_clients
    from crossings
    group by all
),
named as materialized (
    select *, (select string_agg(distinct n.cluster || '/' || n.node, ', ') from node_addresses n where list_contains(between_as, n.address)) as between_nodes,
        (
            select string_agg(distinct n.cluster || '/' || n.node, ', ')
            from node_addresses n
            join nodes_without_agent w on w.cluster = n.cluster and w.node = n.node
            where list_contains(ambiguous_as, n.address)
        ) as ambiguous_agentless
    from counted
),
lacking as materialized (
    from lacking_clusters(window_since(since, whole), window_until(since, until, whole), max_unproved)
),
pairs as (
    select distinct source_cluster as one, destination_cluster as other from counted
),
lacked as materialized (from lacking_pairs('pairs', 'lacking')),
judged as (
    select
        c.*,
        {'cause': 'missing-fields', 'reason': format('{} seen to cross; {}', connections, m.what)} as missing,
        concat_ws(', ', s.unwatched, d.unwatched) as blind_nodes,
        why_unseen(one_sided, d.unwatched, a.nodes, d.gap_seconds, d.window_seconds, max_unproved, e.events, e.nodes) as unseen,
        format('{} of {} from outside the mesh; they do not count for the verdict', connections, connections) as outside,
        case
            when source_cluster = '' and o.address is not null
                then {'cause': 'overlapping-pod-cidrs', 'reason': format('pod ranges of {} and {} overlap: {} and others may be of either, and not from outside the mesh', least(o.one, o.other), greatest(o.one, o.other), o.address)}
            when source_cluster = '' and translated + destination_translated > 0 then {'cause': 'nodeport', 'reason': outside}
            when source_cluster = '' then {'cause': '', 'reason': outside}
            when m.distorts then missing
            when between_clusters > masqueraded
                then {'cause': 'translated-between', 'reason': format(
                    '{} of {} arrived under {} instead of the pod''s address ({}), with the port and destination they had left with: {}',
                    between_clusters, connections, shortened(between_as, 3), shortened(between_clients, 3),
                    if(between_nodes is null, format('no node has {}; something between {} and {} translates', if(len(between_as) = 1, 'it', 'them'), source_cluster, destination_cluster), format('it is that of {}, which is not where these pods run', between_nodes))
                )}
            when masqueraded > 0
                then {'cause': 'masquerade', 'reason': format(
                    '{} of {} arrived under the address of a node ({}) instead of the pod''s ({}): the masquerading of {} does not spare {}; add {} to its nonMasqueradeCIDRs or widen its native-routing CIDR',
                    masqueraded, connections, coalesce(shortened(masqueraded_as, 8), 'seen where it was done'),
                    shortened(hidden_clients, 3), source_cluster, destination_cluster,
                    coalesce(t.cidrs, 'its pod CIDRs')
                )}
            when o.address is not null
                then {'cause': 'overlapping-pod-cidrs', 'reason': format('pod ranges of {} and {} overlap: {} and others do not tell whose they are', least(o.one, o.other), greatest(o.one, o.other), o.address)}
            -- What came shows its source, whatever what left does not.
            when m.at_other or m.what is not null and (one_sided + ambiguous > max_unproved * connections or d.cluster is not null) then missing
            when one_sided + ambiguous > max_unproved * connections and one_sided >= ambiguous and unseen is not null
                then {'cause': 'one-sided', 'reason': format('{} of {} left and were never seen to arrive; {}', one_sided, connections, unseen)}
            when one_sided + ambiguous > max_unproved * connections and one_sided >= ambiguous
                then {'cause': 'lost-between', 'reason': format('{} of {} left and were never seen to arrive, though nothing explains it in {}, where all was watched: they got lost on the way, or something translates them and changes the ports as well', one_sided, connections, destination_cluster)}
            when one_sided + ambiguous > max_unproved * connections
                then {'cause': 'ambiguous', 'reason': format('{} of {} came from a node''s address and nothing tells for whom: a masqueraded pod, a NodePort or a process of the node{}', ambiguous, connections, coalesce('; not watched: ' || s.unwatched, '') || coalesce('; no Cilium agent runs on ' || ambiguous_agentless, ''))}
            when l.events > max_unproved * sum(if(source_cluster = '', 0, connections)) over ()
                then {'cause': 'lost-events', 'reason': format('{} events were lost while {} connections crossed', l.events, connections)}
            -- One whole side tells: what left shows one-sided, what came shows its source. Two broken ones do not.
            when s.cluster is not null and d.cluster is not null and coalesce(s.unwatched, d.unwatched) is not null
                then {'cause': 'unwatched-nodes', 'reason': format('{} of {} arrived untranslated, but at both ends something was out of sight; not watched: {}', untranslated + destination_translated, connections, blind_nodes)}
            when s.cluster is not null and d.cluster is not null
                then {'cause': 'gaps', 'reason': format('{} of {} arrived untranslated, but nodes at both ends were out of sight for a while', untranslated + destination_translated, connections)}
            when translated > 0
                then {'cause': 'nodeport', 'reason': format('{} of {} arrived untranslated; {} were given the address of the NodePort''s node, which is its way, and none was masqueraded', untranslated + destination_translated, connections, translated)}
            when destination_translated > 0
                then {'cause': '', 'reason': format('{} of {} arrived under the client''s own address, {} of them through a NodePort or load balancer', untranslated + destination_translated, connections, destination_translated)}
            -- Those are the clients of the services, and themselves called by others, mostly from outside.
            when proxied > 0
                then {'cause': '', 'reason': format('{} of {} arrived under the client''s own address, {} under that of Envoy ({}), which calls for clients of an Ingress or Gateway', untranslated - proxied, connections, proxied, array_to_string(proxies, ', '))}
            else {'cause': '', 'reason': format('{} of {} arrived under the client''s own address', untranslated, connections)}
        end as finding
    from named c
    cross join lost l
    left join lacked m on m.one = c.source_cluster and m.other = c.destination_cluster
    left join holes s on s.cluster = c.source_cluster
    left join holes d on d.cluster = c.destination_cluster
    left join doubtful o using (source_cluster, destination_cluster, protocol)
    left join agentless a using (source_cluster, destination_cluster, protocol)
    left join losses e on e.cluster = c.destination_cluster
    left join to_spare t on t.cluster = c.destination_cluster
)
select
    source_cluster, destination_cluster, protocol, connections, untranslated, translated, destination_translated, one_sided, ambiguous,
    untranslated / nullif(connections - one_sided - ambiguous, 0) as untranslated_share,
    wilson_low(untranslated, connections - one_sided - ambiguous) as ci_low, wilson_high(untranslated, connections - one_sided - ambiguous) as ci_high,
    seen_as, coalesce(hidden_clients, []) as hidden_clients, c.verdict, finding.cause as cause, finding.reason as reason
from judged
left join causes_nat() c on c.cause = finding.cause
order by 1, 2, 3;

-- What each cause in report_nat means, and what to do about it.
create or replace macro causes_nat() as table
from (values
    ('', 'ok', 'what crossed arrived under the client''s own address, or came from outside the mesh', ''),
    ('nodeport', 'ok', 'calls through a NodePort or load balancer were given the address of a node on their way, as these do by design; from outside the mesh also those that kept their own', 'where servers must see their clients, call the service by its name instead; for clients outside the mesh set externalTrafficPolicy: Local, or loadBalancer.mode=dsr in Cilium'),
    ('masquerade', 'violation', 'pods'' calls to the other cluster were given the address of a node instead of their own', 'in the Cilium of the source cluster add the other clusters'' pod ranges to nonMasqueradeCIDRs (ip-masq-agent), or widen ipv4NativeRoutingCIDR to cover all clusters'),
    ('translated-between', 'violation', 'pods'' calls to the other cluster left under their own address and arrived under another one, with the same ports: more often than chance would have it. No node where they run gave it: a NAT gateway, a firewall or a VPN between the clusters did, or an egress gateway', 'let what lies between the clusters route pod addresses without translation (no NAT rule for the pod ranges of the mesh), tunnel between the clusters, or take the mesh''s pod ranges out of the CiliumEgressGatewayPolicy'),
    ('overlapping-pod-cidrs', 'insufficient', 'pod ranges of the two clusters overlap and their pods have addresses in both, so that an address does not tell whose it is', 'give each cluster pod ranges of its own: Cluster Mesh needs them; keep clusters of different meshes in different databases (--db)'),
    ('one-sided', 'insufficient', 'too many connections left and were never seen to arrive: where they went nodes were not watched, run no Cilium agent, or lost events', 'collect the nodes of the destination cluster; meshobs report coverage names those that are missing'),
    ('lost-between', 'insufficient', 'too many connections left and were never seen to arrive, although everything was seen where they went: they got lost on the way, or were translated so that nothing ties the two ends', 'look for a firewall or NAT gateway between the clusters: compare the connections that came from outside the mesh (--evidence) with those that left, and capture packets on both nodes'),
    ('ambiguous', 'insufficient', 'too many connections came from a node''s address, and nothing tells whether a pod, a NodePort or the node itself made them', 'collect the nodes of all clusters, with bpf.monitorAggregation set to none'),
    ('missing-fields', 'insufficient', 'flows lack fields that rules need, or stand for many flows each: an exporter''s fieldMask or fieldAggregate, a pipeline behind it, or what made them (Retina, old Hubble) has none', 'take the named fields into the exporter''s fieldMask (or leave it empty) and let pipelines keep them, leave fieldAggregate empty, or collect from a Relay; meshobs report coverage --evidence lists them'),
    ('lost-events', 'insufficient', 'nodes lost more events than the share of all crossing connections that may be unproved', 'choose a window without the losses (meshobs report coverage --evidence lists them), or make them fewer as lost-events of report_coverage says'),
    ('unwatched-nodes', 'insufficient', 'at both ends nodes were out of sight, and of some no flow came at all: no Relay was connected to them, or they were silent about traffic that other nodes show', 'meshobs report coverage names them: bring their Cilium agents or their Relay back, or collect by a Relay that reaches them (--relay, --context)'),
    ('gaps', 'insufficient', 'nodes at both ends were out of sight for longer than the share of the time that may be unproved', 'choose a window without the gaps (meshobs report coverage --evidence lists them), or collect again')
) as causes(cause, verdict, meaning, cure);

-- The flows behind report_nat.
create or replace macro evidence_nat(
    since := null::timestamp_ns, until := null::timestamp_ns, whole := false, only_namespace := null::varchar, only_service := null::varchar
) as table
select source_cluster, destination_cluster, protocol, class, connection,
    end_name(client_namespace, client_pod, client_address) as client, end_name(server_namespace, server_pod, server_address) as server,
    flow.*
from (
    select c.*, dense_rank() over (order by c.time, c.attempt) as connection, unnest(flows_behind(c)) as flow
    from nat_crossings_between(window_since(since, whole), window_until(since, until, whole), only_namespace, only_service) c
)
order by class in ('masquerade', 'between', 'ambiguous', 'one-sided') desc, source_cluster, destination_cluster, protocol, connection, flow.time;
