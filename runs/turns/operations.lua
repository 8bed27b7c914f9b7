-- What workers ask for: the operations, each of them atomic. The last part of the script.
--
-- An operation returns a table, which the caller gets as JSON.
--
--   dropped               counter: messages that found steps waiting, none of which might start
--   timer                 the time (ms) at which the delayed message will arrive
--   reply:NONCE           the reply to a request, in case it is sent again

-- A route opens a day later at most, but a timer that has come too early costs only one more message.
local TIMER_MAX_MS = 60 * 60 * 1000
-- Longer than a client waits before it asks again.
local REPLY_KEPT_MS = 10 * 1000
-- The operations that would have another effect the second time.
local CHANGES = {enqueue = true, take = true, finish = true}
-- Arguments of one command; Lua allows a few thousand.
local CHUNK = 1000

-- -- messages -------------------------------------------------------------------------------------------------------

local function to_name(choice)
    return choice and {choice.tenant, choice.run, choice.step, choice.route} or nil
end

-- Ask for one delayed message, unless one will arrive by then.
local function set_timer(reply, opens, route)
    if not opens then
        return
    end
    local at = math.min(opens, NOW + TIMER_MAX_MS)
    local set = tonumber(redis.call('GET', key('timer')))
    if set and set > NOW and set <= at then
        return
    end
    redis.call('SET', key('timer'), at, 'PX', math.max(at - NOW, 1))
    reply.retry_ms = math.max(at - NOW, 1)
    local tenant = redis.call('ZRANGE', key('route', route), 0, 0)[1]
    reply.next = tenant and to_name(first_step(tenant, route))
end

-- Each step came with a message. Those that found nothing startable were dropped, and are asked for again, one by one,
-- when something is; the others are still under way.
local function ask_for_dropped(reply)
    if (tonumber(redis.call('GET', key('dropped'))) or 0) <= 0 then
        return
    end
    local choice, opens, opening = choose()
    if choice then
        redis.call('DECR', key('dropped'))
        reply.startable, reply.next = true, to_name(choice)
    elseif redis.call('EXISTS', key('routes')) == 0 then
        redis.call('DEL', key('dropped'))
    else
        set_timer(reply, opens, opening)
    end
end

-- -- operations -----------------------------------------------------------------------------------------------------

local operations = {}

function operations.enqueue()
    for _, waiting in ipairs(request.steps) do
        local tenant, run, step, route = unpack(waiting)
        if request.delay_ms then
            redis.call('ZADD', key('later'), NOW + request.delay_ms, cjson.encode({tenant, route, run, step}))
        else
            redis.call('ZREM', key('later'), cjson.encode({tenant, route, run, step}))
            add(tenant, route, run, step)
        end
    end
    if request.is_dropped then
        redis.call('INCRBY', key('dropped'), #request.steps)
    end
    return {}
end

function operations.take()
    if redis.call('EXISTS', key('limits')) == 0 then
        return {lacks_limits = true}
    end
    release_expired()
    add_due()
    if request.own and redis.call('EXISTS', key('routes')) == 0 then
        local tenant, run, step, route = unpack(request.own)
        add(tenant, route, run, step)
    end
    local reply = {}
    local choice, opens, opening = choose()
    if choice then
        reply.turn = start(choice)
        ask_for_dropped(reply)
    elseif redis.call('EXISTS', key('routes')) == 0 then
        redis.call('DEL', key('dropped'))
        reply.empty = true
    else
        redis.call('INCR', key('dropped'))
        set_timer(reply, opens, opening)
    end
    return reply
end

function operations.renew()
    for _, token in ipairs(request.held) do
        hold(token)
    end
    return {}
end

function operations.finish()
    local _, _, route = unpack(decoded(request.token))
    count_outcome(route, request.token)
    release(request.token)
    release_expired()
    add_due()
    local reply = {}
    if redis.call('EXISTS', key('limits')) == 1 then
        ask_for_dropped(reply)
    end
    return reply
end

function operations.set_limits()
    redis.call('DEL', key('limits'))
    for from = 1, #request.limits, CHUNK do
        redis.call('HSET', key('limits'), unpack(request.limits, from, math.min(from + CHUNK - 1, #request.limits)))
    end
    return {}
end

-- How many of the tenant's steps will be taken before number `number`, in all its queues.
local function steps_before(tenant, number)
    local before = 0
    for _, route in ipairs(redis.call('SMEMBERS', key('tenant', tenant, 'routes'))) do
        before = before + redis.call('ZCOUNT', queue(tenant, route), '-inf', '(' .. number)
    end
    return before
end

function operations.why()
    local tenant, member = request.tenant, cjson.encode({request.run, request.step})
    for _, route in ipairs(redis.call('SMEMBERS', key('tenant', tenant, 'routes'))) do
        local number = redis.call('ZSCORE', queue(tenant, route), member)
        if number and (not request.route or request.route == route) then
            local kind, at = obstacle(route)
            if not kind and in_flight('tenant:' .. tenant) >= (tenant_limit(tenant) or math.huge) then
                kind = 'tenant_limit'
            end
            return {kind = kind or 'turn', route = route, position = steps_before(tenant, number) + 1, until_ms = at}
        end
    end
    return {}
end

function operations.snapshot()
    local routes, tenants = {}, {}
    local function of(found, name, fresh)
        found[name] = found[name] or fresh
        return found[name]
    end
    local function waits(route, tenant, number)
        local at_route = of(routes, route, {waiting = 0})
        local of_tenant = of(tenants, tenant, {waiting = 0})
        at_route.waiting, of_tenant.waiting = at_route.waiting + number, of_tenant.waiting + number
    end
    for _, route in ipairs(redis.call('SMEMBERS', key('routes'))) do
        for _, tenant in ipairs(redis.call('ZRANGE', key('route', route), 0, -1)) do
            waits(route, tenant, redis.call('ZCARD', queue(tenant, route)))
        end
    end
    for _, token in ipairs(redis.call('ZRANGEBYSCORE', key('inflight'), '(' .. NOW, '+inf')) do
        local _, tenant, route = unpack(decoded(token))
        if route then
            waits(route, tenant, 0)
        end
    end
    for _, route in ipairs(request.routes) do
        of(routes, route, {waiting = 0})
    end
    for route, shown in pairs(routes) do
        local state = breaker(route)
        shown.in_flight, shown.limit = in_flight(model_of(route)), limits_of(model_of(route)).calls
        shown.breaker = state_of(route, state)
        if shown.breaker == 'open' then
            shown.until_ms = math.max(state.closed_until, state.open_until or 0)
        end
        shown.provider_in_flight = in_flight(provider_of(route))
        shown.provider_limit = limits_of(provider_of(route)).calls
    end
    for tenant, shown in pairs(tenants) do
        shown.in_flight, shown.limit = in_flight('tenant:' .. tenant), tenant_limit(tenant)
    end
    return {routes = routes, tenants = tenants}
end

-- Return the tenant's members of a sorted set whose members have the tenant at `position`.
local function members_of(name, tenant, position)
    local found = {}
    for _, member in ipairs(redis.call('ZRANGE', key(name), 0, -1)) do
        if decoded(member)[position] == tenant then
            found[#found + 1] = member
        end
    end
    return found
end

function operations.count()
    local number = #members_of('inflight', request.tenant, 2) + #members_of('later', request.tenant, 1)
    for _, route in ipairs(redis.call('SMEMBERS', key('tenant', request.tenant, 'routes'))) do
        number = number + redis.call('ZCARD', queue(request.tenant, route))
    end
    return {number = number}
end

function operations.erase()
    local tenant, counted = request.tenant, operations.count()
    for _, token in ipairs(members_of('inflight', tenant, 2)) do
        release(token)
    end
    for _, member in ipairs(members_of('later', tenant, 1)) do
        redis.call('ZREM', key('later'), member)
    end
    for _, names in ipairs({redis.call('SMEMBERS', key('routes')), redis.call('SMEMBERS', key('tenant', tenant, 'routes'))}) do
        for _, route in ipairs(names) do
            forget_queue(tenant, route)
        end
    end
    redis.call('DEL', key('tenant', tenant, 'routes'), key('tenant', tenant, 'inflight'))
    redis.call('HDEL', key('served'), tenant)
    redis.call('HDEL', key('limits'), 'tenant:' .. tenant)
    return counted
end

-- -- once per nonce -------------------------------------------------------------------------------------------------

-- A worker that gets no answer asks again with the same nonce, and must not take a second turn.
local function once()
    local name = key('reply', request.nonce)
    local reply = redis.call('GET', name)
    if not reply then
        reply = cjson.encode(operations[request.operation]())
        redis.call('SET', name, reply, 'PX', REPLY_KEPT_MS)
    end
    return reply
end

if CHANGES[request.operation] then
    return once()
end
return cjson.encode(operations[request.operation]())
