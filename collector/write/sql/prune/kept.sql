-- From when on a layer is kept, in nanoseconds.
select coalesce(epoch_ns(max(first_time)), 0) from kept where layer = '{layer}';
