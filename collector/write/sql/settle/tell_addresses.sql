-- What the flows of a stretch and those around it tell of addresses for the first time.
create or replace temp table addresses_new as
from (
    from addresses_told(slices_from({first}), slices_to({end}))
    except
    from known_addresses
);
