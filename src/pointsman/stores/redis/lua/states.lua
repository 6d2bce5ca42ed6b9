-- Typed states of runs. Appends write them.

function F.of()
    local out = {}
    for _, run in ipairs(A.runs) do
        local state = call('HGET', P .. 'states', run)
        if state then out[#out + 1] = {run, state} end
    end
    return out
end

function F.rewrite()
    local at = call('HMGET', P .. 'run:' .. A.run, 'epoch', 'sequence')
    if not at[1] or num(at[1]) ~= A.epoch or num(at[2]) ~= A.sequence then return 0 end
    write_state(A.run, A.state)
    return 1
end
