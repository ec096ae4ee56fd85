-- Small macros that the others share. Windows are in nanoseconds.

-- The first 64 bits of an uuid as the start of its text: '6f1c2a9e-0b7d-4c55'.
create or replace macro uuid_text(uuid) as
    format('{:08x}-{:04x}-{:04x}', uuid >> 32, (uuid >> 16) & 65535, uuid & 65535);

-- A time moved by some seconds; plain interval arithmetic would cut it to microseconds.
create or replace macro moved(moment, seconds) as
    make_timestamp_ns(epoch_ns(moment) + (seconds * 1e9)::bigint);

-- The stretch of the last run that brought or met flows.
create or replace view last_run as
select collection, first_flow as first_time, moved(last_flow, 0.000000001) as end_time
from collections
where first_flow is not null
qualify row_number() over (order by collection desc) = 1;

-- The window of a report: what was asked for, else the last run, else (whole) everything.
create or replace macro window_since(since, whole) as
    coalesce(since::timestamp_ns, if(whole, null, (select first_time from last_run)), make_timestamp_ns(0));

create or replace macro window_until(since, until, whole) as
    coalesce(until::timestamp_ns, if(whole or since is not null, null, (select end_time from last_run)), timestamp_ns '2262-01-01');

-- The first and last moment of a window in which there are flows, in nanoseconds; the last is not part of it.
create or replace macro window_seen(since := null::timestamp_ns, until := null::timestamp_ns, whole := false) as table
select epoch_ns(min(time)) as first_ns, epoch_ns(max(time)) + 1 as end_ns
from flows
where time >= window_since(since, whole) and time < window_until(since, until, whole);

-- Wilson's interval of a share (E. B. Wilson, JASA 1927): good for small samples and for shares near 0 and 1.
create or replace macro wilson_low(hits, n) as
    if(n > 0, greatest(0, (hits / n + 1.9207 / n - 1.96 * sqrt(hits / n * (1 - hits / n) / n + 0.9604 / (n * n))) / (1 + 3.8416 / n)), null);

create or replace macro wilson_high(hits, n) as
    if(n > 0, least(1, (hits / n + 1.9207 / n + 1.96 * sqrt(hits / n * (1 - hits / n) / n + 0.9604 / (n * n))) / (1 + 3.8416 / n)), null);

-- The protocols that reports speak of; both kinds of ICMP are one, other protocols are none.
create or replace macro report_protocol(protocol) as
    case when protocol in ('TCP', 'UDP', 'SCTP') then protocol when starts_with(protocol, 'ICMP') then 'ICMP' end;

-- Whether a packet may open a connection: a TCP packet with SYN and no ACK, a ping, any datagram.
create or replace macro may_open(protocol, tcp_flags, icmp_type) as
    case
        when protocol = 'TCP' then (tcp_flags & 18) = 2
        when protocol in ('UDP', 'SCTP') then true
        when protocol = 'ICMPv4' then icmp_type = 8
        when protocol = 'ICMPv6' then icmp_type = 128
        else false
    end;

-- P(X <= k) of a binomial distribution; above 10,000 trials Chernoff's bound, which is never below it.
create or replace macro binomial_below(k, n, p) as
    case
        when k < 0 then 0.0
        when k >= n then 1.0
        when p <= 0 then 1.0
        when p >= 1 then 0.0
        when n <= 10000 then least(1.0, list_sum(list_transform(
            range(0, k::bigint + 1),
            lambda i: exp(lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) + i * ln(p) + (n - i) * ln(1 - p))
        )))
        when k >= n * p then 1.0
        else exp(-(if(k = 0, 0, k * ln(k / (n * p))) + (n - k) * ln((n - k) / (n * (1 - p)))))
    end;

-- How likely a share this far off, on either side, is by chance.
create or replace macro binomial_test(k, n, p) as
    least(1.0, 2 * least(binomial_below(k, n, p), binomial_below(n - k, n, 1 - p)));

-- A share as a percentage for people.
create or replace macro percent(share) as
    format('{:.1f} %', 100.0 * share);

-- A version as one number that sorts: '1.19.6' -> 1019006.
create or replace macro version_rank(version) as
    list_reduce(list_transform(list_resize(string_split(regexp_extract(version, '\d+\.\d+(\.\d+)?'), '.'), 3, '0'), lambda part: try_cast(part as bigint)), lambda rank, part: rank * 1000 + part);
