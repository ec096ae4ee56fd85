-- Values as people write them.

-- The first 64 bits of an uuid as the start of its text: '6f1c2a9e-0b7d-4c55'.
create or replace macro uuid_text(uuid) as
    format('{:08x}-{:04x}-{:04x}', uuid >> 32, (uuid >> 16) & 65535, uuid & 65535);

-- A share as a percentage for people.
create or replace macro percent(share) as
    format('{:.1f} %', 100.0 * share);

-- A version as one number that sorts: '1.19.6' -> 1019006.
create or replace macro version_rank(version) as
    list_reduce(list_transform(list_resize(string_split(regexp_extract(version, '\d+\.\d+(\.\d+)?'), '.'), 3, '0'), lambda part: try_cast(part as bigint)), lambda rank, part: rank * 1000 + part);

-- The first texts of a list, and how many more there are; null where there are none.
create or replace macro shortened(texts, most) as
    if(len(texts) > 0, array_to_string(texts[:most], ', ') || if(len(texts) > most, format(' and {} more', len(texts) - most), ''), null);
