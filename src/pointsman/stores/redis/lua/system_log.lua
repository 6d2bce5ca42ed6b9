-- Streams without an owner: the expected sequence decides, and the loser reads again.

local function head_of(stream)
    local h = call('HMGET', P .. 'sys:' .. stream, 'sequence', 'state', 'updated_at')
    return h[1] and {stream, h[1], h[2], h[3]} or nil
end

function F.append()
    local key = P .. 'sys:' .. A.stream
    local sequence = num(call('HGET', key, 'sequence') or '0')
    if sequence ~= A.expected then return false end
    for i = 1, A.count do call('RPUSH', P .. 'sysev:' .. A.stream, ARGV[A.first + i - 1]) end
    call('LTRIM', P .. 'sysev:' .. A.stream, -A.kept, -1)
    call('HSET', key, 'sequence', text(sequence + A.count), 'state', ARGV[A.state], 'updated_at', text(NOW))
    call('ZADD', P .. 'streams', 0, A.stream)
    call('ZADD', P .. 'changes', call('INCR', P .. 'changed'), A.stream)
    return head_of(A.stream)
end

function F.head() return head_of(A.stream) or false end

local function has_prefix(stream) return stream:sub(1, #A.prefix) == A.prefix end

function F.heads()
    local out = {}
    local from = A.after ~= '' and '(' .. A.after or '-'
    for _, stream in ipairs(call('ZRANGEBYLEX', P .. 'streams', from, '+')) do
        if #out >= A.limit then break end
        if has_prefix(stream) then out[#out + 1] = head_of(stream) end
    end
    return out
end

function F.changes()
    local out = {}
    for _, stream in ipairs(call('ZRANGEBYSCORE', P .. 'changes', '(' .. A.since, '+inf')) do
        if has_prefix(stream) then out[#out + 1] = head_of(stream) end
    end
    return {call('GET', P .. 'changed') or '0', out}
end

function F.read() return call('LRANGE', P .. 'sysev:' .. A.stream, 0, -1) end
