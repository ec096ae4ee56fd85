-- How far reader $reader is: lists of nodes ('cluster/node') and times in nanoseconds.
insert into positions by name
select
    $reader::varchar as reader, split_part(name, '/', 1) as cluster, substr(name, position('/' in name) + 1) as node, $asked::varchar as asked,
    make_timestamp_ns(moment) as until
from (select unnest($nodes::varchar[]) as name, unnest($times::bigint[]) as moment)
on conflict do update set
    asked = excluded.asked, until = if(positions.asked = excluded.asked, greatest(positions.until, excluded.until), excluded.until);
