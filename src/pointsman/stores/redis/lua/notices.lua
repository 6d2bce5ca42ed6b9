-- What a webhook is to be told of, until it was. Appends write it.

function F.take()
    local out = {}
    for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'notices', '-inf', NOW, 'LIMIT', 0, A.limit)) do
        local tries = call('HINCRBY', P .. 'notice:' .. id, 'tries', 1)
        local notice = call('HMGET', P .. 'notice:' .. id, 'at', 'body')
        call('ZADD', P .. 'notices', text(NOW + A.hold_ms), id)
        out[#out + 1] = {id, notice[1], notice[2], tries}
    end
    return out
end

function F.postpone() return call('ZADD', P .. 'notices', 'XX', 'CH', text(NOW + A.delay_ms), A.notice) end

function F.settle()
    for _, id in ipairs(A.notices) do
        call('ZREM', P .. 'notices', id)
        call('DEL', P .. 'notice:' .. id)
    end
    return 1
end
