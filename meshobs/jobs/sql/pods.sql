-- How one phase's requests fell on the pods that answered: by the clients, and by the connections that flows show.
with saw as (
    select client_cluster as client, answered_cluster as cluster, answered_pod as pod, count(*) as n
    from truth
    where phase = $phase and answered_pod is not null
    group by all
),
span as (select min(started) as first, max(ended) as last from phases where phase = $phase),
seen as (
    select client_cluster as client, server_cluster as cluster, server_pod as pod, count(*) as n
    from connections_between((select first from span), (select last from span))
    where outcome = 'arrived' and client_cluster <> ''
    group by all
)
select
    client, string_agg(saw.n, ' / ' order by cluster, pod) as clients,
    string_agg(coalesce(seen.n, 0), ' / ' order by cluster, pod) as flows
from saw
left join seen using (client, cluster, pod)
group by client
order by client;
