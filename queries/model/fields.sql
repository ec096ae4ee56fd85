-- Fields that rules need and that never came: masked by an exporter, dropped by a pipeline, or never made by what sent the
-- flows. What is not there is unknown, not none. Told by what holds of Cilium's own flows, in every recording: each has an
-- event type, each trace event a point, and each of those at TO_ENDPOINT a reason, an endpoint and both identities.

-- What came from each source about each node, and what had which field.
create or replace macro fields_seen(since, until) as table
select origin, cluster, node, min(first_time) as first_time, max(last_time) as last_time, sum(columns(* exclude (origin, cluster, node, batch, first_time, last_time)))
from counts_asked(since, until)
join (select batch, origin from batches) using (batch)
group by origin, cluster, node;

-- What each field is needed for.
--   distorts:  without it flows are taken for what they are not; without the others something is not seen
--   silences:  reports on connections say nothing without it; without the others they know less of some
create or replace macro needed_fields() as table
from (values
    ('aggregate', 1, false, true, 'take fieldAggregate out of the exporter''s settings'),
    ('node_name', 2, true, true, ''),
    ('event_type', 3, false, true, ''),
    ('trace events', 4, false, true, 'let filters of the exporter or of the call pass them, and leave bpf.events.trace.enabled on'),
    ('trace_observation_point', 5, false, true, ''),
    ('trace_reason', 6, false, true, 'trace_reason comes with Cilium 1.16, and not from Retina'),
    ('IP.source', 7, true, true, ''),
    ('IP.destination', 8, true, true, ''),
    ('l4', 9, true, true, ''),
    ('source_port', 10, true, true, ''),
    ('destination_port', 11, true, true, ''),
    ('l4.TCP.flags', 12, false, true, ''),
    ('source.ID', 13, false, true, ''),
    ('destination.ID', 14, false, true, ''),
    ('source.identity', 15, true, true, ''),
    ('destination.identity', 16, true, true, ''),
    ('uuid', 17, true, true, 'the same time came from another source, too: without uuids flows may stand here twice; import one of the two only'),
    ('event_type.sub_type', 18, false, false, ''),
    ('socket_cookie', 19, false, false, '')
) as fields(field, rank, distorts, silences, advice);

-- The fields that a source lacks for a cluster, a row each. Where another source that lacks nothing covers the same time of
-- that cluster, only what may stand twice counts.
create or replace macro missing_fields(since, until, max_unproved) as table
with
seen as materialized (from fields_seen(since, until)),
of_clusters as materialized (
    select origin, cluster, min(first_time) as first_time, max(last_time) as last_time, sum(columns(* exclude (origin, cluster, node, first_time, last_time))), sum(if(node = '', flows, 0)) as nowhere
    from seen
    group by origin, cluster
),
-- Sources without uuids that tell of the same node at the same time as another one.
doubled as materialized (
    select distinct s.origin, s.cluster
    from seen s
    join seen o on o.cluster = s.cluster and o.node = s.node and o.origin <> s.origin
    where s.unnamed > 0 and s.with_reason > 0 and o.with_reason > 0
        and least(epoch_ns(s.last_time), epoch_ns(o.last_time)) - greatest(epoch_ns(s.first_time), epoch_ns(o.first_time)) > seconds_ns(1)
),
lacking as materialized (
    select
        c.origin, c.cluster, c.first_time, c.last_time, 10 as enough,
        unnest(list_filter([
            if(sums > 0, 'aggregate', null),
            if(nowhere > max_unproved * flows, 'node_name', null),
            if(untyped > max_unproved * flows, 'event_type', null),
            -- Of an idle cluster little is seen.
            if(untyped = 0 and flows >= enough and sum(traces) over (partition by origin) = 0, 'trace events', null),
            if(without_point > max_unproved * traces, 'trace_observation_point', null),
            if(without_reason > max_unproved * delivered or with_reason = 0 and (outward >= enough or without_point > 0 or untyped > 0), 'trace_reason', null),
            if(without_source > max_unproved * traces or traces >= enough and with_source = 0, 'IP.source', null),
            if(without_destination > max_unproved * traces or traces >= enough and with_destination = 0, 'IP.destination', null),
            if(traces >= enough and with_protocol = 0, 'l4', null),
            if(with_ports > 0 and with_source_port = 0, 'source_port', null),
            if(with_ports > 0 and with_destination_port = 0, 'destination_port', null),
            if(tcp > 0 and with_flags = 0, 'l4.TCP.flags', null),
            -- What hosts send has none.
            if(with_source_id = 0 and (pods_left > 0 or with_destination_id = 0 and delivered + without_point + untyped >= enough), 'source.ID', null),
            if(without_destination_id > max_unproved * delivered or with_destination_id = 0 and without_point + untyped >= enough, 'destination.ID', null),
            if(without_source_identity > max_unproved * delivered or traces >= enough and with_source_identity = 0, 'source.identity', null),
            if(without_destination_identity > max_unproved * delivered or traces >= enough and with_destination_identity = 0, 'destination.identity', null),
            if(d.origin is not null, 'uuid', null),
            if(socket_events > 0 and with_socket_point = 0, 'event_type.sub_type', null),
            if(socket_events > 0 and with_cookie = 0, 'socket_cookie', null)
        ], lambda field: field is not null)) as field
    from of_clusters c
    left join doubled d using (origin, cluster)
),
whole_sources as (
    from of_clusters anti join (from lacking where field <> 'uuid') using (origin, cluster)
)
select l.origin, l.cluster, l.field, l.first_time, l.last_time, n.rank, n.distorts, n.silences, n.advice
from lacking l
join needed_fields() n using (field)
where l.field = 'uuid' or not exists (
    from whole_sources w
    where w.cluster = l.cluster and epoch_ns(w.first_time) <= epoch_ns(l.first_time) + seconds_ns(1) and epoch_ns(w.last_time) >= epoch_ns(l.last_time) - seconds_ns(1)
);

-- The same in a sentence for each cluster, and whether any of it distorts or silences.
create or replace macro lacking_clusters(since, until, max_unproved) as table
with
missing as materialized (from missing_fields(since, until, max_unproved)),
told as (
    select
        cluster, bool_or(distorts) as distorts, bool_or(silences) as silences,
        list_transform(list_sort(list(distinct {'rank': rank, 'field': field})), lambda one: one.field) as fields,
        list_transform(list_sort(list(distinct {'rank': rank, 'advice': advice}) filter (advice <> '')), lambda one: one.advice) as advice,
        array_to_string(list_sort(list(distinct regexp_extract(origin, '[^/]+/?$'))), ', ') as origins
    from missing
    group by cluster
),
sentences as (
    select
        list(cluster) as clusters,
        concat_ws(
            '; ',
            if(list_contains(fields, 'aggregate'), 'lines of ' || origins || ' are sums, each of many flows', null),
            if(list_contains(fields, 'trace events'), 'no trace events came from ' || origins, null),
            'not in the flows of ' || coalesce(nullif(array_to_string(list_sort(clusters), ', '), ''), 'any node') || ' from ' || origins || ': '
                || nullif(array_to_string(list_filter(fields, lambda field: field not in ('aggregate', 'trace events')), ', '), '')
                || if(list_contains(fields, 'aggregate'), '', ', which an exporter''s fieldMask or a pipeline may have left out'),
            nullif(array_to_string(advice, '; '), '')
        ) as what
    from told
    group by fields, advice, origins
)
select t.cluster, t.distorts, t.silences, s.what
from told t
join sentences s on list_contains(s.clusters, t.cluster);

-- The same for pairs of clusters, whatever they are called in `pairs`, a relation of one and other; '' tells of all.
create or replace macro lacking_pairs(pairs, lacking) as table
select p.one, p.other, bool_or(l.distorts) as distorts, bool_or(l.cluster in ('', p.other)) as at_other, string_agg(distinct l.what, '; ' order by l.what) as what
from query_table(pairs) p
join query_table(lacking) l on l.silences and l.cluster in ('', p.one, p.other)
group by all;

-- Why nothing may have been seen in a window, in one sentence; null where flows lack nothing.
create or replace macro lacking_summary(since := null::timestamp_ns, until := null::timestamp_ns, whole := false, max_unproved := 0.01) as table
select string_agg(distinct what, '; ' order by what) as what
from lacking_clusters(window_since(since, whole), window_until(since, until, whole), max_unproved)
where silences;
