-- May a call to a route begin now? The limits of its provider and its model, and its breaker.
-- The first part of the script that `runs.turns.store` runs; queues.lua and operations.lua follow it.
--
-- KEYS[1] is the beginning of every key. ARGV[1] is a JSON object: the operation, its values and the settings.
-- A route is "provider/model". A scope is what a limit applies to: "tenant:T", "provider:P" or "model:R" (R is a route).
--
--   limits                hash: "SCOPE:calls", "SCOPE:requests", "SCOPE:tokens", "tenant:T", "tenants" (the default)
--   SCOPE:inflight        sorted set: tokens of turns, by the time (ms) at which they end unless they are renewed
--   SCOPE:requests        hash: second -> calls begun in it; kept only if there is a limit
--   SCOPE:tokens          hash: second -> tokens that calls reported in it; kept only if there is a limit
--   breaker:R             hash: faults in a row and the time of the first, closed_until (Retry-After), open_until,
--                         opens in a row, and the token of the one call that tries an open route (probe)

local request = cjson.decode(ARGV[1])

local function key(...)
    return KEYS[1] .. table.concat({...}, ':')
end

-- The server's clock, because those of the workers differ. Tests pass a time of their own.
local function clock()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

local NOW = request.now_ms or clock()
local SECOND = math.floor(NOW / 1000)
-- A counted second leaves the window when its last instant is a minute ago, so no 60 seconds hold more than the limit.
local WINDOW_S = 61
-- How long a breaker remembers how often it opened.
local BREAKER_KEPT_MS = 60 * 60 * 1000

local function model_of(route)
    return 'model:' .. route
end

local function provider_of(route)
    return 'provider:' .. string.match(route, '^[^/]*')
end

-- Entries whose time is over do not count, even if nothing has removed them yet.
local function in_flight(scope)
    return redis.call('ZCOUNT', key(scope, 'inflight'), '(' .. NOW, '+inf')
end

local function limits_of(scope)
    local found = redis.call('HMGET', key('limits'), scope .. ':calls', scope .. ':requests', scope .. ':tokens')
    return {calls = tonumber(found[1]), requests = tonumber(found[2]), tokens = tonumber(found[3])}
end

local function tenant_limit(tenant)
    local found = redis.call('HMGET', key('limits'), 'tenant:' .. tenant, 'tenants')
    return tonumber(found[1] or found[2])
end

-- -- limits per minute ----------------------------------------------------------------------------------------------

local function count(scope, unit, number)
    if limits_of(scope)[unit] then
        redis.call('HINCRBY', key(scope, unit), SECOND, number)
        redis.call('EXPIRE', key(scope, unit), WINDOW_S)
    end
end

-- Return the counts of the last minute as {second, number}, oldest first, with their sum; forget older ones.
local function last_minute(scope, unit)
    local counted, sum = redis.call('HGETALL', key(scope, unit)), 0
    local seconds = {}
    for i = 1, #counted, 2 do
        local second, number = tonumber(counted[i]), tonumber(counted[i + 1])
        if second + WINDOW_S <= SECOND then
            redis.call('HDEL', key(scope, unit), counted[i])
        else
            seconds[#seconds + 1] = {second, number}
            sum = sum + number
        end
    end
    table.sort(seconds, function(one, other) return one[1] < other[1] end)
    return seconds, sum
end

-- Return the time (ms) at which the last minute will hold less than the limit; nil if it does now.
local function full_until(scope, unit, limit)
    if not limit then
        return nil
    end
    local seconds, sum = last_minute(scope, unit)
    local opens = nil
    for _, counted in ipairs(seconds) do
        if sum < limit then
            return opens
        end
        sum = sum - counted[2]
        opens = (counted[1] + WINDOW_S) * 1000
    end
    return opens
end

-- -- the breaker ----------------------------------------------------------------------------------------------------

local function breaker(route)
    local found = redis.call('HMGET', key('breaker', route), 'closed_until', 'open_until', 'probe', 'faults', 'since', 'opens')
    return {
        closed_until = tonumber(found[1]) or 0,
        open_until = tonumber(found[2]),
        probe = found[3],
        faults = tonumber(found[4]) or 0,
        since = tonumber(found[5]) or NOW,
        opens = tonumber(found[6]) or 0,
    }
end

-- Return whether a call of `state`'s route is trying whether the provider has recovered.
local function is_probed(route, state)
    local ends = state.probe and redis.call('ZSCORE', key(model_of(route), 'inflight'), state.probe)
    return ends and tonumber(ends) > NOW
end

-- "closed", "open", "half open" (one call may try) or "probing" (one call does).
local function state_of(route, state)
    if state.closed_until > NOW or (state.open_until or 0) > NOW then
        return 'open'
    end
    if not state.open_until then
        return 'closed'
    end
    return is_probed(route, state) and 'probing' or 'half open'
end

local function open_breaker(route, state)
    local open_ms = math.min(request.open_ms * 2 ^ math.min(state.opens, 20), request.open_max_ms)
    local until_ms = math.floor(NOW + open_ms * (0.75 + request.jitter / 2))
    redis.call('HDEL', key('breaker', route), 'faults', 'since', 'probe')
    redis.call('HSET', key('breaker', route), 'open_until', until_ms, 'opens', state.opens + 1)
    redis.call('PEXPIRE', key('breaker', route), until_ms - NOW + BREAKER_KEPT_MS)
end

-- Faults count in a row, and only if they are close together. Calls that began before the breaker opened tell nothing new.
local function count_fault(route, state, is_probe)
    if is_probe then
        return open_breaker(route, state)
    elseif state.open_until then
        return
    end
    local is_row = state.faults > 0 and state.since + request.fault_window_ms > NOW
    local faults = is_row and state.faults + 1 or 1
    if faults >= request.faults then
        return open_breaker(route, state)
    end
    redis.call('HSET', key('breaker', route), 'faults', faults, 'since', is_row and state.since or NOW)
    redis.call('PEXPIRE', key('breaker', route), BREAKER_KEPT_MS)
end

-- Only the probe's success closes an open breaker; any success ends a row of faults.
local function count_success(route, state, is_probe)
    if is_probe or not state.open_until then
        redis.call('HDEL', key('breaker', route), 'faults', 'since', 'open_until', 'opens', 'probe')
    end
end

local function close_route(route, state, retry_after_ms)
    local until_ms = math.floor(math.max(state.closed_until, NOW + retry_after_ms))
    redis.call('HSET', key('breaker', route), 'closed_until', until_ms)
    redis.call('PEXPIRE', key('breaker', route), until_ms - NOW + BREAKER_KEPT_MS)
end

local function count_outcome(route, token)
    local state = breaker(route)
    local is_probe = state.probe == token
    if request.outcome == 'ok' then
        count_success(route, state, is_probe)
    elseif request.outcome == 'failed' then
        count_fault(route, state, is_probe)
    end
    if request.retry_after_ms then
        close_route(route, state, request.retry_after_ms)
    end
    if (request.tokens or 0) > 0 then
        count(provider_of(route), 'tokens', request.tokens)
        count(model_of(route), 'tokens', request.tokens)
    end
end

-- -- all together ---------------------------------------------------------------------------------------------------

-- Return why no call to the route may begin, and the time (ms) at which that ends; nil if a call may begin. Without a
-- time it ends with a call that is in flight.
local function obstacle(route)
    local state = breaker(route)
    local named = state_of(route, state)
    if named == 'open' then
        return 'breaker', math.max(state.closed_until, state.open_until or 0)
    elseif named == 'probing' then
        return 'breaker'
    end
    for _, scope in ipairs({provider_of(route), model_of(route)}) do
        local limits = limits_of(scope)
        if limits.calls and in_flight(scope) >= limits.calls then
            return scope == model_of(route) and 'model_limit' or 'provider_limit'
        end
        local requests_ms = full_until(scope, 'requests', limits.requests)
        if requests_ms then
            return 'requests_per_minute', requests_ms
        end
        local tokens_ms = full_until(scope, 'tokens', limits.tokens)
        if tokens_ms then
            return 'tokens_per_minute', tokens_ms
        end
    end
end

-- Note that a call begins. The first one after an open breaker's time is the probe.
local function count_call(route, token)
    count(provider_of(route), 'requests', 1)
    count(model_of(route), 'requests', 1)
    if breaker(route).open_until then
        redis.call('HSET', key('breaker', route), 'probe', token)
    end
end
