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
counted as (
    select
        source_cluster, destination_cluster, protocol,
        count(*) as connections,
        count(*) filter (class = 'untranslated') as untranslated,
        count(*) filter (class in ('masquerade', 'nodeport')) as translated,
        count(*) filter (class = 'destination-translated') as destination_translated,
        count(*) filter (class = 'one-sided') as one_sided,
        count(*) filter (class = 'ambiguous') as ambiguous,
        count(*) filter (class = 'masquerade') as masqueraded,
        list_sort(list(distinct seen_address) filter (translation = 'source' and seen_address is not null)) as seen_as,
        list_sort(list(distinct end_name(client_namespace, client_pod, client_address)) filter (class = 'masquerade')) as hidden_clients
    from crossings
    group by all
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
        format('{} of {} from outside the mesh; they do not count for the verdict', connections, connections) as outside,
        case
            when source_cluster = '' and translated + destination_translated > 0 then {'cause': 'nodeport', 'reason': outside}
            when source_cluster = '' then {'cause': '', 'reason': outside}
            when (select count(*) from overlapping_ranges) > 0
                then {'cause': 'overlapping-pod-cidrs', 'reason': 'pod ranges of two clusters overlap: an address does not tell whose it is'}
            when m.distorts then missing
            when masqueraded > 0
                then {'cause': 'masquerade', 'reason': format(
                    '{} of {} arrived under the address of a node ({}) instead of the pod''s ({}): the masquerading of {} does not spare {}; add {} to its nonMasqueradeCIDRs or widen its native-routing CIDR',
                    masqueraded, connections, coalesce(nullif(array_to_string(seen_as, ', '), ''), 'seen where it was done'),
                    array_to_string(hidden_clients[:3], ', ') || if(len(hidden_clients) > 3, format(' and {} more', len(hidden_clients) - 3), ''), source_cluster, destination_cluster,
                    coalesce((select string_agg(distinct cidr, ', ' order by cidr) from (select unnest(n.pod_cidrs) as cidr from nodes n where n.cluster = destination_cluster)), 'its pod CIDRs')
                )}
            -- What came shows its source, whatever what left does not.
            when m.at_other or m.what is not null and (one_sided + ambiguous > max_unproved * connections or d.cluster is not null) then missing
            when one_sided + ambiguous > max_unproved * connections and one_sided >= ambiguous
                then {'cause': 'one-sided', 'reason': format('{} of {} left and were never seen to arrive: a node of {} was not watched, or its events were lost', one_sided, connections, destination_cluster)}
            when one_sided + ambiguous > max_unproved * connections
                then {'cause': 'ambiguous', 'reason': format('{} of {} came from a node''s address and nothing tells for whom: a masqueraded pod, a NodePort or a process of the node', ambiguous, connections)}
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
            else {'cause': '', 'reason': format('{} of {} arrived under the client''s own address', untranslated, connections)}
        end as finding
    from counted c
    cross join lost l
    left join lacked m on m.one = c.source_cluster and m.other = c.destination_cluster
    left join holes s on s.cluster = c.source_cluster
    left join holes d on d.cluster = c.destination_cluster
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
    ('overlapping-pod-cidrs', 'insufficient', 'pod ranges of two clusters in the database overlap, so that an address does not tell whose it is', 'give each cluster pod ranges of its own: Cluster Mesh needs them; keep clusters of different meshes in different databases (--db)'),
    ('one-sided', 'insufficient', 'too many connections left and were never seen to arrive', 'collect the nodes of the destination cluster; meshobs report coverage names those that are missing'),
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
select source_cluster, destination_cluster, protocol, class, attempt as connection,
    end_name(client_namespace, client_pod, client_address) as client, end_name(server_namespace, server_pod, server_address) as server,
    flow.*
from (
    select c.*, unnest(flows_behind(c)) as flow
    from nat_crossings_between(window_since(since, whole), window_until(since, until, whole), only_namespace, only_service) c
)
order by class in ('masquerade', 'ambiguous', 'one-sided') desc, source_cluster, destination_cluster, protocol, connection, flow.time;
