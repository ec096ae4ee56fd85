-- Working tables of one writing connection. They are made once and emptied each time: a change of the catalog would make
-- DuckDB plan every prepared statement anew, which costs more than the rows.
create or replace temp table staged as select *, 1::bigint as copy from projected_messages limit 0;
create or replace temp table contents (position bigint, content uhugeint);
create or replace temp table fingerprints (content uhugeint primary key, times ubigint);
create or replace temp table staged_lost_events (position bigint, time timestamp_ns, cluster varchar, node varchar, source varchar, num_events_lost ubigint, cpu integer, first timestamp_ns, last timestamp_ns);
create or replace temp table staged_node_status (position bigint, time timestamp_ns, relay varchar, state varchar, message varchar, cluster varchar, node varchar);
create or replace temp table bare_nodes (node varchar, cluster varchar, primary key (node, cluster));
