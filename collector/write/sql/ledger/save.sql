update collections
set
    state = $state,
    ended = if($state = 'running', null, now()::timestamp),
    received = $received, stored = $stored, duplicate = $duplicate, filtered = $filtered, undecodable = $undecodable,
    first_flow = make_timestamp_ns($first), last_flow = make_timestamp_ns($last),
    sources = $sources::json::struct(name varchar, kind varchar, received ubigint, stored ubigint, duplicate ubigint, filtered ubigint, undecodable ubigint)[],
    problems = $problems, asked = $asked, excluded = $excluded
where collection = $collection;
