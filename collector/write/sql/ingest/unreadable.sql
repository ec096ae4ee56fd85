-- The first messages that are none.
select position from {messages} where kind = 'broken' order by position limit $kept;
