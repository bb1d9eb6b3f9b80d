-- The health of an OptimizerPlugin for Argo CD. Its status is in kstatus format (Ready, and Reconciling and Stalled while
-- they are true), and read as kstatus reads it. A plugin that is disabled is Ready, for its owner wants it so; one
-- without a trained model is Ready as well, and the message says so.
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
  return { status = "Progressing", message = "generation " .. tostring(generation) .. " is not in use yet" }
end
if is_true(ready) then
  local message = say(ready)
  if conditions.Trained ~= nil and not is_true(conditions.Trained) then
    message = message .. "; " .. say(conditions.Trained)
  end
  return { status = "Healthy", message = message }
end
if is_true(conditions.Stalled) then
  return { status = "Degraded", message = say(conditions.Stalled) }
end
return { status = "Progressing", message = say(ready) }
