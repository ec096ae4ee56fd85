-- Make the attempts of a stretch, and of flows that are kept what else is made of them. Other stretches in which an address shows that was not known then are made again.
delete from stretches s
where exists (
    from (
        select time, unnest([client_address, aim_address, seen_address, server_address]) as address
        from attempts
        where time >= hours_from({first}) and time < hours_to({end})
    ) a
    join addresses_new n on n.address = a.address and hour_of(epoch_ns(a.time)) between n.hour - 1 and n.hour + 1
    where a.time >= s.first_time and a.time < s.end_time
);
insert into known_addresses from addresses_new;
delete from attempts where time >= {first} and time < {end};
insert into attempts by name
from attempts_made({first}, {end}, null::timestamp_ns, null::timestamp_ns);
delete from events where time >= {kept} and time < {end};
insert into events by name
from deciding_flows({kept}, {end});
delete from flow_counts where first_time >= {kept} and first_time < {end};
insert into flow_counts by name
from flows_counted({kept}, {end});
insert into stretches
select {first}, {end}, {flows}, (select count(*) from attempts where time >= {first} and time < {end});
