insert into collections (kind, started, state, meshobs_version, arguments, keeps)
values ($kind, now()::timestamp, 'running', $version, $arguments, $keeps)
returning collection;
