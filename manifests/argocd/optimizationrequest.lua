-- The health of an OptimizationRequest for Argo CD. Its status is in kstatus format (Ready, and Reconciling and Stalled
-- while they are true). Read otherwise than kstatus reads it are two: a suspended request, and a standing one whose
-- answer is being renewed, which is Ready all the while and would else go to and fro.
-- Without Argo CD's useOpenLibs there is no string and no math library; none is needed.
local status = obj.status or {}
local generation = obj.metadata.generation

local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end

local function is_true(condition)
  return condition ~= nil and condition.status == "True"
end

local function say(condition)
  return tostring(condition.reason) .. ": " .. tostring(condition.message)
end

local ready = conditions.Ready
if ready == nil then
  return { status = "Progressing", message = "the operator has not written a status yet" }
end
if status.observedGeneration ~= generation then
  -- A request that waits, or is being solved, says why for this generation before it has answered it.
  if ready.observedGeneration == generation then
    return { status = "Progressing", message = say(ready) }
  end
  return { status = "Progressing", message = "generation " .. tostring(generation) .. " is not answered yet" }
end
if is_true(ready) then
  return { status = "Healthy", message = say(ready) }
end
if is_true(conditions.Stalled) then
  return { status = "Degraded", message = say(conditions.Stalled) }
end
if ready.reason == "Suspended" then
  return { status = "Suspended", message = say(ready) }
end
return { status = "Progressing", message = say(ready) }
