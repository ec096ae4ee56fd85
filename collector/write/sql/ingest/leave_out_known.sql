-- Leave what is new of the staged events: as insert_flows.sql tells, and of those that were only seen.
delete from staged
where problem is not null or copy > 1
    or exists (
        from flows_seen f
        where f.time between make_timestamp_ns($first) and make_timestamp_ns($last) and f.uuid = staged.uuid and same_moment(f.time, staged.time)
    );
