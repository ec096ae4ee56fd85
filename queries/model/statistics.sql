-- What a count proves.

-- Wilson's interval of a share (E. B. Wilson, JASA 1927): good for small samples and for shares near 0 and 1.
create or replace macro wilson_low(hits, n) as
    if(n > 0, greatest(0, (hits / n + 1.9207 / n - 1.96 * sqrt(hits / n * (1 - hits / n) / n + 0.9604 / (n * n))) / (1 + 3.8416 / n)), null);

create or replace macro wilson_high(hits, n) as
    if(n > 0, least(1, (hits / n + 1.9207 / n + 1.96 * sqrt(hits / n * (1 - hits / n) / n + 0.9604 / (n * n))) / (1 + 3.8416 / n)), null);

-- P(X <= k) of a binomial distribution; above 10,000 trials Chernoff's bound, which is never below it.
create or replace macro binomial_below(k, n, p) as
    case
        when k < 0 then 0.0
        when k >= n then 1.0
        when p <= 0 then 1.0
        when p >= 1 then 0.0
        when n <= 10000 then least(1.0, list_sum(list_transform(
            range(0, k::bigint + 1),
            lambda i: exp(lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) + i * ln(p) + (n - i) * ln(1 - p))
        )))
        when k >= n * p then 1.0
        else exp(-(if(k = 0, 0, k * ln(k / (n * p))) + (n - k) * ln((n - k) / (n * (1 - p)))))
    end;

-- How likely a share this far off, on either side, is by chance.
create or replace macro binomial_test(k, n, p) as
    least(1.0, 2 * least(binomial_below(k, n, p), binomial_below(n - k, n, 1 - p)));
