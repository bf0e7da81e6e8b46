-- Finds the model of a prediction over REST and with it the model's virtual host, whose routes choose the version.
-- What cannot be a model's name is left to the batcher to refuse.
function envoy_on_request(handle)
  local headers = handle:headers()
  if (headers:get("x-model-version") or "") ~= "" then
    return -- the caller has chosen
  end
  local path = headers:get("x-envoy-original-path") or headers:get(":path")
  local model
  if string.sub(path, 1, 4) == "/v1/" then
    model = string.match(path, "^/v1/models/([^/?]+)/predict")
  else
    -- A path that names a version has chosen.
    model = string.match(path, "^/v2/models/([^/?]+)/infer")
  end
  if model ~= nil and #model <= 63 and string.find(model, "^[a-z0-9_-]+$") then
    headers:replace("x-mesh-model", model)
    handle:clearRouteCache()
  end
end
