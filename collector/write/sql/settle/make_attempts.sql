-- Make the attempts of a stretch, and of flows that are kept what else is made of them. Other stretches in which an address
-- shows of which something was not known then are made again: what is told of it in one hour counts in those beside it, too
-- (addresses_known), and is nothing new there if it was told in another one of theirs.
with told as (
    from (select kind, address, cluster, node, unnest([hour - 1, hour, hour + 1]) as hour from addresses_new)
    anti join (select kind, address, cluster, node, unnest([hour - 1, hour, hour + 1]) as hour from known_addresses)
        using (kind, address, cluster, node, hour)
)
delete from stretches s
where exists (
    from (
        select time, hour_of(epoch_ns(time)) as hour, unnest([client_address, aim_address, seen_address, server_address]) as address
        from attempts
        where time >= hours_from({first}) and time < hours_to({end})
    ) a
    join told using (address, hour)
    where a.time >= s.first_time and a.time < s.end_time
);
insert into known_addresses from addresses_new;
delete from attempts where time >= {first} and time < {end};
insert into attempts by name
from attempts_made({first}, {end}, null::timestamp_ns, null::timestamp_ns);
delete from flow_counts where first_time >= {kept} and first_time < {end};
insert into flow_counts by name
from flows_counted({kept}, {end});
insert into stretches
select {first}, {end}, {flows}, (select count(*) from attempts where time >= {first} and time < {end});
