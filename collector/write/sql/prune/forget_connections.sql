-- Forget the connections before a moment; states of objects stay where they still hold after it. Table rows_done says how many.
create or replace temp table rows_done as select count(*) as connections from kept_connections where time < {before};
delete from kept_connections where time < {before};
delete from kube_states k
where exists (
    from kube_states later
    where later.cluster = k.cluster and later.kind = k.kind and later.namespace = k.namespace and later.name = k.name
        and later.valid_from > k.valid_from and later.valid_from < {before}
);
delete from services where valid_to < {before};
delete from backends where valid_to < {before};
delete from nodes where valid_to < {before};
delete from service_periods where valid_to < {before};
insert into kept values ('connections', {before})
on conflict do update set first_time = excluded.first_time;
