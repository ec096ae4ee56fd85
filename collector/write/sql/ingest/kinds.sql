-- How many messages are no flows, by the table they belong to; `other` is of no use here, `broken` is no Hubble message.
select {kind} as kind, count(*)
from {messages}
where {kind} <> 'flow'
group by all
order by all;
