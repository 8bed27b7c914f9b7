-- Whose turn is it? Queues of waiting steps, turns in flight, and the choice. The second part of the script.
--
-- A step waits in a queue of its tenant and route. No operation reads a whole queue: what is read grows with the number
-- of routes and, at worst, of tenants.
--
--   sequence              counter: gives the order of arrival, and of turns
--   routes                set: routes that steps wait for
--   route:R               sorted set: tenants whose steps wait for the route, the one to serve next first
--   tenant:T:routes       set: routes that the tenant's steps wait for
--   tenant:T:waiting:R    sorted set: the tenant's steps, as JSON [run, step], by order of arrival
--   later                 sorted set: delayed steps, as JSON [tenant, route, run, step], by the time (ms) they are due
--   inflight              like SCOPE:inflight, for all turns. A token is JSON [nonce, tenant, route, run, step]
--   served                hash: tenant -> the number of its last turn

-- A tenant's place among others: steps in flight * TURNS + number of the last turn. Sorted sets are exact up to 2^53.
local TURNS = 2 ^ 40
local SERVED_KEPT_S = 24 * 60 * 60
-- Tenants at their limit that are passed over at a time.
local PAGE = 50

-- Another program may have written anything.
local function decoded(text)
    local is_json, found = pcall(cjson.decode, text)
    return is_json and type(found) == 'table' and found or {}
end

-- -- queues ---------------------------------------------------------------------------------------------------------

local function queue(tenant, route)
    return key('tenant', tenant, 'waiting', route)
end

local function place_of(tenant)
    return in_flight('tenant:' .. tenant) * TURNS + (tonumber(redis.call('HGET', key('served'), tenant)) or 0)
end

local function sort_again(tenant)
    local place = place_of(tenant)
    for _, route in ipairs(redis.call('SMEMBERS', key('tenant', tenant, 'routes'))) do
        redis.call('ZADD', key('route', route), 'XX', place, tenant)
    end
end

local function add(tenant, route, run, step)
    local number = redis.call('INCR', key('sequence'))
    redis.call('ZADD', queue(tenant, route), 'NX', number, cjson.encode({run, step}))
    redis.call('SADD', key('tenant', tenant, 'routes'), route)
    redis.call('SADD', key('routes'), route)
    redis.call('ZADD', key('route', route), place_of(tenant), tenant)
end

local function forget_queue(tenant, route)
    redis.call('DEL', queue(tenant, route))
    redis.call('SREM', key('tenant', tenant, 'routes'), route)
    redis.call('ZREM', key('route', route), tenant)
    if redis.call('EXISTS', key('route', route)) == 0 then
        redis.call('SREM', key('routes'), route)
    end
end

local function remove(choice)
    redis.call('ZREM', queue(choice.tenant, choice.route), choice.member)
    if redis.call('EXISTS', queue(choice.tenant, choice.route)) == 0 then
        forget_queue(choice.tenant, choice.route)
    end
end

-- Return the step that has waited longest; nil if none waits.
local function first_step(tenant, route)
    local found = redis.call('ZRANGE', queue(tenant, route), 0, 0, 'WITHSCORES')
    local run, step = unpack(decoded(found[1] or '[]'))
    if not step then
        return nil
    end
    return {tenant = tenant, route = route, run = run, step = step, member = found[1], number = tonumber(found[2])}
end

local function add_due()
    local due = redis.call('ZRANGEBYSCORE', key('later'), '-inf', NOW, 'LIMIT', 0, 100)
    for _, member in ipairs(due) do
        local tenant, route, run, step = unpack(decoded(member))
        redis.call('ZREM', key('later'), member)
        if step then
            add(tenant, route, run, step)
        end
    end
end

-- -- turns in flight ------------------------------------------------------------------------------------------------

local function scopes_of(tenant, route)
    return {'tenant:' .. tenant, provider_of(route), model_of(route)}
end

local function hold(token)
    local _, tenant, route = unpack(decoded(token))
    local ends = tonumber(redis.call('ZSCORE', key('inflight'), token) or 0)
    redis.call('ZADD', key('inflight'), NOW + request.lease_ms, token)
    for _, scope in ipairs(scopes_of(tenant, route)) do
        redis.call('ZADD', key(scope, 'inflight'), NOW + request.lease_ms, token)
        redis.call('PEXPIRE', key(scope, 'inflight'), 2 * request.lease_ms)
    end
    if ends <= NOW then
        sort_again(tenant)
    end
end

local function release(token)
    redis.call('ZREM', key('inflight'), token)
    local _, tenant, route = unpack(decoded(token))
    if not route then
        return
    end
    for _, scope in ipairs(scopes_of(tenant, route)) do
        redis.call('ZREM', key(scope, 'inflight'), token)
    end
    if breaker(route).probe == token then
        redis.call('HDEL', key('breaker', route), 'probe')
    end
    sort_again(tenant)
end

-- A worker that was killed renews nothing, so its turns end by themselves.
local function release_expired()
    for _, token in ipairs(redis.call('ZRANGEBYSCORE', key('inflight'), '-inf', NOW, 'LIMIT', 0, 100)) do
        release(token)
    end
end

-- -- the choice -----------------------------------------------------------------------------------------------------

-- The place says how many steps are in flight; it is checked before it keeps a tenant waiting.
local function has_room(tenant, place)
    local limit = tenant_limit(tenant)
    return math.floor(place / TURNS) < limit or in_flight('tenant:' .. tenant) < limit
end

-- Return the route's first step of the first tenant below its limit, with the tenant's place; nil if there is none.
local function first_of(route)
    local from = 0
    while true do
        local page = redis.call('ZRANGE', key('route', route), from, from + PAGE - 1, 'WITHSCORES')
        for i = 1, #page, 2 do
            local tenant, place = page[i], tonumber(page[i + 1])
            if has_room(tenant, place) then
                local choice = first_step(tenant, route)
                if choice then
                    choice.place = place
                    return choice
                end
                -- A server that is short of memory may remove one key alone, such as this queue.
                forget_queue(tenant, route)
            end
        end
        if #page < 2 * PAGE then
            return nil
        end
        from = from + PAGE
    end
end

local function is_before(one, other)
    if one.place ~= other.place then
        return one.place < other.place
    end
    return one.number < other.number
end

-- Return the step to start; nil if none may start, and then the first time at which one may, with its route.
local function choose()
    local best, opens, opening = nil, nil, nil
    for _, route in ipairs(redis.call('SMEMBERS', key('routes'))) do
        local kind, at = obstacle(route)
        local choice = not kind and first_of(route)
        if choice and (not best or is_before(choice, best)) then
            best = choice
        elseif at and (not opens or at < opens) then
            opens, opening = at, route
        end
    end
    return best, opens, opening
end

local function start(choice)
    local token = cjson.encode({request.nonce, choice.tenant, choice.route, choice.run, choice.step})
    remove(choice)
    count_call(choice.route, token)
    redis.call('HSET', key('served'), choice.tenant, redis.call('INCR', key('sequence')))
    redis.call('EXPIRE', key('served'), SERVED_KEPT_S)
    hold(token)
    return {token = token, step = {choice.tenant, choice.run, choice.step, choice.route}}
end
