-- Finds the model of a prediction and with it the model's virtual host, whose routes choose the version.
-- REST has the name in its path. gRPC has it in a header where the client was so kind, else in the message, out of which
-- the field extraction has read it. What cannot be a model's name is left to the batcher to refuse.
local EXTRACTION = "envoy.filters.http.grpc_field_extraction"

local function in_message(handle)
  local fields = handle:streamInfo():dynamicMetadata():get(EXTRACTION)
  local values = fields and fields["model_name"]
  return values and values[1]
end

function envoy_on_request(handle)
  local headers = handle:headers()
  if (headers:get("x-model-version") or "") ~= "" then
    return -- the caller has chosen
  end
  local path = headers:get("x-envoy-original-path") or headers:get(":path")
  local model
  if string.sub(path, 1, 4) == "/v1/" then
    model = string.match(path, "^/v1/models/([^/?]+)/predict")
  elseif string.sub(path, 1, 4) == "/v2/" then
    -- A path that names a version has chosen.
    model = string.match(path, "^/v2/models/([^/?]+)/infer")
  else
    model = headers:get("x-model-name") or in_message(handle)
  end
  if model ~= nil and #model <= 63 and string.find(model, "^[a-z0-9_-]+$") then
    headers:replace("x-mesh-model", model)
    handle:clearRouteCache()
  end
end
