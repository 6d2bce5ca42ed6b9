-- Which requests spend from a tranche of a shared budget. Appends write it.

function F.of() return call('SMEMBERS', P .. 'tranche:' .. A.tranche) end

function F.forget()
    call('SREM', P .. 'tranches', A.tranche)
    return call('DEL', P .. 'tranche:' .. A.tranche)
end
