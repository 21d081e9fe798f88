-- Chooses an endpoint for each request that a controller's nginx passes on.
--
-- The table of endpoints is in shared memory, so it outlives reloads and all workers see the same: for each backend the
-- text "address:port address:port ...". The testbed sends a new table whenever endpoints change.

local balancer = require "ngx.balancer"
local shared = ngx.shared.endpoints

-- Of how many endpoints a request is tried at least, as ingress-nginx (proxy-next-upstream-tries).
local TRIES = 3

-- The configuration of this worker.
local own_version

local M = {}

-- A line for each backend: its key and its endpoints. The first line is the version of the table.
local function fill(text)
    local version, lines = text:match("^(%S+)\n(.*)$")
    local present = {}
    for key, endpoints in lines:gmatch("(%S+) ?([^\n]*)\n") do
        present["backend " .. key] = true
        shared:set("backend " .. key, endpoints)
    end
    for _, key in ipairs(shared:get_keys(0)) do
        if key:sub(1, 8) == "backend " and not present[key] then
            shared:delete(key)
        end
    end
    shared:set("version", version)
end

-- Read the table from a file when nginx starts; after a reload it is still there, and may be newer.
function M.load(path)
    local file = io.open(path, "r")
    if file and not shared:get("version") then
        fill(file:read("*a"))
    end
    if file then
        file:close()
    end
end

-- Note for M.state() that a worker of this configuration takes connections, until it is told to end.
function M.enlist(version)
    local key = "worker " .. ngx.worker.pid()
    own_version = version
    shared:set(key, version)
    shared:set("newest", version)
    -- A timer that never comes to its time: nginx runs it when the worker begins to end.
    local function leave(premature)
        if premature then
            shared:delete(key)
        else
            ngx.timer.at(86400, leave)
        end
    end
    ngx.timer.at(86400, leave)
end

local function is_alive(pid)
    local file = io.open("/proc/" .. pid .. "/stat", "r")
    if file then
        file:close()
    end
    return file ~= nil
end

-- Answer with the version of the endpoints and those of the configurations by which requests may be served now.
function M.state()
    local versions = {}
    for _, key in ipairs(shared:get_keys(0)) do
        local pid = key:match("^worker (%d+)$")
        if pid and is_alive(pid) then
            versions[#versions + 1] = shared:get(key)
        elseif pid then
            shared:delete(key)
        end
    end
    ngx.say(shared:get("version") or "none", " ", table.concat(versions, " "))
end

-- Take a new table.
function M.receive()
    ngx.req.read_body()
    fill(ngx.req.get_body_data())
    ngx.say("done")
end

-- The pod is about to end: every answer from here on is the last of its connection.
function M.leave()
    shared:set("leaving", true)
    ngx.say("done")
end

-- Endpoints by backend as this worker has read them: the text, its parts, and whose turn it is.
local known = {}

local function endpoints_of(backend)
    local text = shared:get("backend " .. backend) or ""
    local entry = known[backend]
    if not entry or entry.text ~= text then
        entry = { text = text, turn = entry and entry.turn or math.random(0, 1000000) }
        for address, port in text:gmatch("(%S+):(%d+)") do
            entry[#entry + 1] = { name = address .. ":" .. port, address = address, port = tonumber(port) }
        end
        known[backend] = entry
    end
    return entry
end

-- 503 for a backend without endpoints, before a connection is tried.
--
-- nginx's master lets old workers go on for 100 ms after it has started new ones, and then they close what is idle. A
-- request could meet that end half-way, so until then they say so: their answers carry "Connection: close".
function M.admit()
    if #endpoints_of(ngx.var.backend) == 0 then
        return ngx.exit(ngx.HTTP_SERVICE_UNAVAILABLE)
    end
    if shared:get("newest") ~= own_version or shared:get("leaving") then
        return ngx.exec("@last")
    end
end

-- Choose the endpoint whose turn it is; after an error another one than those that were tried.
function M.balance()
    local endpoints = endpoints_of(ngx.var.backend)
    if #endpoints == 0 then
        return ngx.exit(ngx.HTTP_SERVICE_UNAVAILABLE)
    end
    local tried = ngx.ctx.tried
    if not tried then
        tried = {}
        ngx.ctx.tried = tried
        -- Several may have gone at once, and nobody has said so yet.
        balancer.set_more_tries(math.max(TRIES, #endpoints) - 1)
    end
    local chosen
    for _ = 1, #endpoints do
        endpoints.turn = endpoints.turn + 1
        chosen = endpoints[endpoints.turn % #endpoints + 1]
        if not tried[chosen.name] then
            break
        end
    end
    tried[chosen.name] = true
    local ok, problem = balancer.set_current_peer(chosen.address, chosen.port)
    if not ok then
        ngx.log(ngx.ERR, "endpoint ", chosen.name, ": ", problem)
    end
end

return M
