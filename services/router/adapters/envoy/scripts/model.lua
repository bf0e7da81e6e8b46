-- Finds the model of a prediction over REST, by which its batcher is found, and with it the model's virtual host, whose
-- routes choose the version, unless the caller has.
-- What cannot be a model's name is left to the batcher to refuse.
function envoy_on_request(handle)
  local headers = handle:headers()
  local path = headers:get("x-envoy-original-path") or headers:get(":path")
  local chosen = (headers:get("x-model-version") or "") ~= ""
  local model, version
  if string.sub(path, 1, 4) == "/v1/" then
    model = string.match(path, "^/v1/models/([^/?]+)/predict")
  else
    model = string.match(path, "^/v2/models/([^/?]+)/infer")
    if model == nil then
      -- A path that names a version has chosen.
      model, version = string.match(path, "^/v2/models/([^/?]+)/versions/([^/?]+)/infer")
      if version ~= nil and not chosen and #version <= 63 and string.find(version, "^[a-zA-Z0-9._+-]+$") then
        headers:replace("x-mesh-version", version)
      end
      chosen = true
    end
  end
  if model ~= nil and #model <= 63 and string.find(model, "^[a-z0-9_-]+$") then
    headers:replace("x-mesh-model", model)
    if not chosen then
      handle:clearRouteCache()
    end
  end
end
