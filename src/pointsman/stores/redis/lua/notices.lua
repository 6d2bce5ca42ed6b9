-- What a webhook is to be told of, until it was. Appends write it.

function F.take()
    local out = {}
    for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'notices', '-inf', NOW, 'LIMIT', 0, A.limit)) do
        local notice = call('HMGET', P .. 'notice:' .. id, 'at', 'body', 'tries')
        call('ZADD', P .. 'notices', text(NOW + A.hold_ms), id)
        out[#out + 1] = {id, notice[1], notice[2], notice[3]}
    end
    return out
end

function F.postpone()
    if not call('ZSCORE', P .. 'notices', A.notice) then return 0 end
    call('ZADD', P .. 'notices', text(NOW + A.delay_ms), A.notice)
    return call('HSET', P .. 'notice:' .. A.notice, 'tries', text(A.tries))
end

function F.settle()
    for _, id in ipairs(A.notices) do
        call('ZREM', P .. 'notices', id)
        call('DEL', P .. 'notice:' .. id)
    end
    return 1
end
