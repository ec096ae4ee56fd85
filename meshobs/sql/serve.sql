-- Who reads over Quack may say `use meshobs; ` and then SELECTs, nothing that changes anything, and nothing that hides what it is.
create or replace macro memory.main.reading_only(connection, query) as (
    starts_with(query::varchar, 'use meshobs; ')
    and ((json_serialize_sql(substr(query::varchar, 14))::json)->>'error') = 'false'
    and not regexp_matches(
        lower(query::varchar),
        '\b(quack_\w+|query|query_table|json_execute_serialized_sql|\w*checkpoint|\w+_log|\w+_logs|\w+_logging)\b'
    )
);
set global quack_authorization_function = 'memory.main.reading_only';
set global TimeZone = 'UTC';
set global enable_external_access = false;
