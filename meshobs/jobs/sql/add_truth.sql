-- What the clients of an experiment saw; times are nanoseconds.
insert into truth by name
with told as (
    select unnest($rows::struct(
        time bigint, ended bigint, client varchar, client_cluster varchar, client_address varchar, client_port uinteger,
        target varchar, protocol varchar, answered_cluster varchar, answered_pod varchar, answered_address varchar,
        server_saw varchar, error varchar, reused boolean
    )[], recursive := true)
)
select
    $experiment as experiment, $phase as phase, make_timestamp_ns(time) as time, client_cluster, client,
    nullif(client_address, '') as client_address, client_port, target, protocol,
    nullif(answered_cluster, '') as answered_cluster, nullif(answered_pod, '') as answered_pod,
    nullif(answered_address, '') as answered_address, nullif(server_saw, '') as server_saw, nullif(error, '') as error, reused
from told;
