-- Envoy gives FAILED_PRECONDITION (9) the status 400; our REST contract says 412, so that callers can tell "not now" from
-- "never". When the transcoder has written its body, the code is there and nowhere else.
function envoy_on_response(handle)
  if handle:headers():get(":status") ~= "400" then
    return
  end
  local body = handle:body()
  if body ~= nil and string.find(body:getBytes(0, math.min(body:length(), 16)), '^{"code":9[,}]') then
    handle:headers():replace(":status", "412")
  end
end
