-- Events without an uuid (masked or aggregated logs) get one made from their content and from how often that content
-- came before in this source, so that importing the source again finds them. Its version digit is 8 (RFC 9562: custom).
delete from contents;
insert into contents
select position, md5_number_lower(struct_pack(*columns(* exclude (position, copy, uuid)))::varchar) as content
from staged
where uuid is null and problem is null;

update staged
set uuid = made.uuid
from (
    select
        c.position,
        md5_number_lower(c.content || '/' || (coalesce(f.times, 0) + row_number() over (partition by c.content order by c.position))) as number,
        (number - (number & 61440)) | 32768 as uuid
    from contents c
    left join fingerprints f using (content)
) as made
where staged.position = made.position;

insert into fingerprints
select content, count(*) as times from contents group by content
on conflict do update set times = fingerprints.times + excluded.times;
