-- Incarnations: registered, renewed, and ended once. `client` names the connection whose end is the end of the process.

-- Its trial is then what it died of: without the runs that got on. Told before the first of its runs is claimed: afterwards their
-- heads tell of others.
local function end_incarnation(number)
    if call('ZREM', P .. 'living', number) == 0 then return 0 end
    for _, run in ipairs(call('SMEMBERS', P .. 'trial:' .. number)) do
        local h = hash('run:' .. run)
        if not (h and not ENDED[h.status] and h.owner == number and num(h.takeovers) > 0) then
            call('SREM', P .. 'trial:' .. number, run)
        end
    end
    call('HSET', P .. 'inc:' .. number, 'ended_at', text(NOW))
    call('HDEL', P .. 'board', number)
    call('RPUSH', P .. 'deaths', number)
    return 1
end

function F.register()
    for _, number in ipairs(call('ZRANGE', P .. 'living', 0, -1)) do
        local other = hash('inc:' .. number)
        if other.name == A.name then
            if num(other.expires_at) > NOW and A.dead ~= number then return {'exists', number, other.client, other.address} end
            end_incarnation(number)
        end
    end
    local number = text(call('INCR', P .. 'incarnation'))
    call('HSET', P .. 'inc:' .. number, 'name', A.name, 'address', A.address, 'definitions', A.definitions, 'ttl_ms', A.ttl_ms,
         'started_at', text(NOW), 'expires_at', text(NOW + A.ttl_ms), 'client', A.client, 'ended_at', '')
    call('ZADD', P .. 'living', number, number)
    return {'registered', number}
end

function F.members()
    local out = {}
    for _, number in ipairs(call('ZRANGE', P .. 'living', 0, -1)) do
        out[#out + 1] = {number, call('HGETALL', P .. 'inc:' .. number)}
    end
    return out
end

function F.renew()
    if not is_living(A.number) then return 0 end
    local key = P .. 'inc:' .. A.number
    call('HSET', key, 'expires_at', text(NOW + num(call('HGET', key, 'ttl_ms'))), 'client', A.client)
    return 1
end

-- Only if its lease has run out, or only if this is still its connection, where that is asked.
function F.finish()
    if A.expired then
        local row = hash('inc:' .. A.number)
        if not row or num(row.expires_at) > NOW then return 0 end
    end
    if A.client and call('HGET', P .. 'inc:' .. A.number, 'client') ~= A.client then return 0 end
    return end_incarnation(A.number)
end

function F.deaths() return {call('LRANGE', P .. 'deaths', A.after, -1), F.members(), text(NOW)} end
