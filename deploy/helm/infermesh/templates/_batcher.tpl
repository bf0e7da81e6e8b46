{{/* What a batcher is told, in a gateway or by itself. */}}
{{- define "infermesh.batcher.env" -}}
{{- include "infermesh.commonEnv" (list . "batcher" true) }}
- {name: INFERMESH_BATCHER_PORT, value: "8110"}
- {name: INFERMESH_BATCHER_DATA_DIR, value: /var/lib/infermesh/batcher}
- {name: INFERMESH_BATCHER_ROUTER_ADDRESS, value: {{ include "infermesh.address" (list . "router") | quote }}}
- {name: INFERMESH_BATCHER_REGISTRY_ADDRESS, value: {{ include "infermesh.address" (list . "registry") | quote }}}
- {name: INFERMESH_BATCHER_MONITOR_ADDRESS, value: {{ include "infermesh.address" (list . "monitor") | quote }}}
- {name: INFERMESH_BATCHER_DEPLOYER_ADDRESS, value: {{ include "infermesh.address" (list . "deployer") | quote }}}
{{- if .Values.redis.cache.secretName }}
{{ include "infermesh.fromSecret" (list "INFERMESH_BATCHER_REDIS_URL" .Values.redis.cache) }}
{{- end }}
{{- if .Values.redis.features.secretName }}
{{ include "infermesh.fromSecret" (list "INFERMESH_BATCHER_FEATURE_REDIS_URL" .Values.redis.features) }}
{{- end }}
{{- if .Values.gateway.carriesBatcher }}
- {name: INFERMESH_BATCHER_GATEWAY_CONFIG, value: /run/infermesh/bootstrap.yaml}
- {name: INFERMESH_BATCHER_GATEWAY_ADMIN, value: "127.0.0.1:8140"}
- {name: INFERMESH_BATCHER_GATEWAY_THREADS, value: {{ .Values.gateway.threads | quote }}}
{{- else }}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- {name: INFERMESH_BATCHER_ADDRESS, value: "$(POD_NAME).{{ include "infermesh.name" (list . "batcher") }}:8110"}
{{- end }}
{{- include "infermesh.external.env" (list . "BATCHER") }}
{{- include "infermesh.settings" (list "batcher" .Values.batcher.settings) }}
{{- include "infermesh.extraEnv" .Values.batcher }}
{{- end -}}

{{/* Asks a listener of the container itself, which takes certificates of the mesh alone. Takes a list: the root, a path. */}}
{{- define "infermesh.ask" -}}
exec:
  command: [/usr/local/bin/python3, -I, -S, /opt/infermesh/bin/probe.py, "8110", {{ index . 1 }}]
{{- end -}}

{{- define "infermesh.askEnv" -}}
{{- if ne .Values.tls.mode "insecure" }}
- {name: TLS_DIR, value: /etc/infermesh/tls}
{{- end }}
{{- end -}}

{{/* An autoscaler of a StatefulSet. Takes a list: the root, the component, its values. */}}
{{- define "infermesh.autoscaler" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}{{- $scaling := (index . 2).autoscaling -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "infermesh.metadata" (list $root $component) | nindent 2 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: StatefulSet, name: {{ include "infermesh.name" (list $root $component) }}}
  minReplicas: {{ $scaling.minReplicas }}
  maxReplicas: {{ $scaling.maxReplicas }}
  metrics:
    - type: Resource
      resource: {name: cpu, target: {type: Utilization, averageUtilization: {{ $scaling.targetCpuPercent }}}}
    {{- with $scaling.metrics }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  behavior:
    # Up at once, doubling at most; down slowly, once less was enough for five minutes.
    scaleUp:
      stabilizationWindowSeconds: 0
      policies: [{type: Percent, value: 100, periodSeconds: 15}]
    scaleDown:
      stabilizationWindowSeconds: 300
      policies: [{type: Percent, value: 50, periodSeconds: 60}]
{{- end -}}
