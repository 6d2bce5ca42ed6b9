-- The people's list, the oldest first. Appends write it.

local function row_of(id)
    local row = call('HGETALL', P .. 'task:' .. id)
    return #row > 0 and {id, row} or nil
end

function F.get() return row_of(A.id) or false end

function F.of_run()
    local out = {}
    for _, id in ipairs(call('SMEMBERS', P .. 'tasks:' .. A.run)) do out[#out + 1] = row_of(id) end
    return out
end

-- Those that were opened at `at` and after, some at a time.
function F.page()
    local out = {}
    for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'tasks', A.at, '+inf', 'LIMIT', A.passed, A.limit)) do
        out[#out + 1] = row_of(id)
    end
    return out
end
