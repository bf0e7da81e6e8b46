{{/* What each service of the control plane alone is told, and what it alone mounts. Fields are those of its settings.py. */}}

{{- define "infermesh.databaseEnv" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}
{{- $own := (get $root.Values $component).database | default dict -}}
{{- $secret := $own.secretName | empty | ternary $root.Values.database $own -}}
{{ include "infermesh.fromSecret" (list (printf "INFERMESH_%s_DATABASE_URL" (upper $component)) $secret) }}
{{- end -}}

{{/* ---- registry ---- */}}

{{- define "infermesh.registry.env" -}}
{{ include "infermesh.databaseEnv" (list . "registry") }}
- {name: INFERMESH_REGISTRY_DATA_DIR, value: /var/lib/infermesh}
- {name: INFERMESH_REGISTRY_DEPLOYER_ADDRESS, value: {{ include "infermesh.address" (list . "deployer") | quote }}}
{{- with .Values.artifacts.uri }}
- {name: INFERMESH_REGISTRY_ARTIFACTS_URI, value: {{ . | quote }}}
{{- end }}
{{- with .Values.artifacts.encryptionKeys }}
{{- if .secretName }}
{{- $files := list }}
{{- range .files }}{{- $files = append $files (printf "/etc/infermesh/artifact-keys/%s" .) }}{{- end }}
- {name: INFERMESH_REGISTRY_ARTIFACT_KEY_FILE, value: {{ join "," $files | quote }}}
{{- end }}
{{- end }}
{{- if .Values.auth.signingKey.secretName }}
{{ include "infermesh.fromSecret" (list "INFERMESH_REGISTRY_SIGNING_KEY" .Values.auth.signingKey) }}
{{- end }}
{{- end -}}

{{- define "infermesh.registry.pod" -}}{{- end -}}

{{- define "infermesh.registry.mounts" -}}
{{- if .Values.artifacts.encryptionKeys.secretName }}
- {name: artifact-keys, mountPath: /etc/infermesh/artifact-keys, readOnly: true}
{{- end }}
{{- end -}}

{{- define "infermesh.registry.volumes" -}}
{{- with .Values.artifacts.encryptionKeys.secretName }}
- name: artifact-keys
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- end -}}

{{/* ---- router ---- */}}

{{- define "infermesh.router.env" -}}
{{ include "infermesh.databaseEnv" (list . "router") }}
- {name: INFERMESH_ROUTER_DATA_DIR, value: /var/lib/infermesh}
- {name: INFERMESH_ROUTER_REGISTRY_ADDRESS, value: {{ include "infermesh.address" (list . "registry") | quote }}}
- {name: INFERMESH_ROUTER_DEPLOYER_ADDRESS, value: {{ include "infermesh.address" (list . "deployer") | quote }}}
- {name: INFERMESH_ROUTER_BATCH_ADDRESS, value: {{ include "infermesh.address" (list . "batch") | quote }}}
- {name: INFERMESH_ROUTER_MONITOR_ADDRESS, value: {{ include "infermesh.address" (list . "monitor") | quote }}}
- {name: INFERMESH_ROUTER_OWN_ADDRESS, value: {{ include "infermesh.address" (list . "router") | quote }}}
{{- if .Values.gateway.carriesBatcher }}
- {name: INFERMESH_ROUTER_GATEWAY_ADDRESS, value: {{ include "infermesh.address" (list . "gateway") | quote }}}
{{- else }}
# The first is always there; the others say themselves where they are.
- {name: INFERMESH_ROUTER_BATCHER_ADDRESS, value: {{ printf "%[1]s-0.%[1]s:8110" (include "infermesh.name" (list . "batcher")) | quote }}}
{{- end }}
- {name: INFERMESH_ROUTER_GATEWAY_HOST, value: 0.0.0.0}
- {name: INFERMESH_ROUTER_GATEWAY_PORT, value: "8080"}
- {name: INFERMESH_ROUTER_AUTHENTICATION, value: {{ .Values.auth.enabled | quote }}}
{{- with .Values.auth.oidcIssuers }}
- {name: INFERMESH_ROUTER_OIDC_ISSUERS, value: {{ . | toJson | quote }}}
{{- end }}
{{- if ne .Values.tls.mode "insecure" }}
- {name: INFERMESH_ROUTER_GATEWAY_TLS_DIR, value: /etc/infermesh/tls}
{{- end }}
{{- if .Values.gateway.tls.secretName }}
- {name: INFERMESH_ROUTER_TLS_CERTIFICATE, value: /etc/infermesh/public-tls/tls.crt}
- {name: INFERMESH_ROUTER_TLS_PRIVATE_KEY, value: /etc/infermesh/public-tls/tls.key}
{{- end }}
{{- if .Values.limiter.enabled }}
- {name: INFERMESH_ROUTER_LIMITER_ADDRESS, value: {{ include "infermesh.address" (list . "limiter") | quote }}}
{{- end }}
{{- end -}}

{{- define "infermesh.router.pod" -}}{{- end -}}
{{- define "infermesh.router.mounts" -}}{{- end -}}
{{- define "infermesh.router.volumes" -}}{{- end -}}

{{/* ---- deployer ---- */}}

{{- define "infermesh.deployer.env" -}}
{{- $pool := include "infermesh.name" (list . "triton") -}}
{{- $http := list -}}{{- $grpc := list -}}{{- $metrics := list -}}
{{- range $place := until (int .Values.triton.replicas) -}}
{{- $http = append $http (printf "%s-%d.%s:8000" $pool $place $pool) -}}
{{- $grpc = append $grpc (printf "%s-%d.%s:8001" $pool $place $pool) -}}
{{- $metrics = append $metrics (printf "%s-%d.%s:8002" $pool $place $pool) -}}
{{- end -}}
{{ include "infermesh.databaseEnv" (list . "deployer") }}
- {name: INFERMESH_DEPLOYER_DATA_DIR, value: /var/lib/infermesh/deployer}
- {name: INFERMESH_DEPLOYER_MODEL_REPOSITORY, value: /var/lib/infermesh/repository}
- {name: INFERMESH_DEPLOYER_ENVIRONMENTS, value: /var/lib/infermesh/environments}
- {name: INFERMESH_DEPLOYER_TRITON_HTTP_ADDRESS, value: {{ join "," $http | quote }}}
- {name: INFERMESH_DEPLOYER_TRITON_GRPC_ADDRESS, value: {{ join "," $grpc | quote }}}
{{- with .Values.triton.nativeBackends }}
- {name: INFERMESH_DEPLOYER_NATIVE_BACKENDS, value: {{ join "," . | quote }}}
{{- end }}
{{- with .Values.triton.gpu.count }}
- {name: INFERMESH_DEPLOYER_GPUS, value: {{ until (int .) | join "," | quote }}}
- {name: INFERMESH_DEPLOYER_TRITON_METRICS_ADDRESS, value: {{ join "," $metrics | quote }}}
{{- end }}
{{- if .Values.operator.enabled }}
- {name: INFERMESH_DEPLOYER_CLUSTERS, value: {{ .Values.operator.cluster | quote }}}
{{- end }}
- {name: INFERMESH_DEPLOYER_REGISTRY_ADDRESS, value: {{ include "infermesh.address" (list . "registry") | quote }}}
- {name: INFERMESH_DEPLOYER_ROUTER_ADDRESS, value: {{ include "infermesh.address" (list . "router") | quote }}}
{{- include "infermesh.external.env" (list . "DEPLOYER") }}
{{- end -}}

{{- define "infermesh.deployer.pod" -}}
{{ include "infermesh.besideTheModels" . }}
{{- end -}}

{{- define "infermesh.deployer.mounts" -}}
{{- include "infermesh.external.mounts" . }}
{{- end -}}

{{- define "infermesh.deployer.volumes" -}}
{{- include "infermesh.external.volumes" . }}
{{- end -}}

{{/* Whose certificates external servers may show, and what they are shown: of the deployer and of batchers, wherever they
are. The first takes a list: the root, the service in capitals. */}}
{{- define "infermesh.external.env" -}}
{{- with (index . 0).Values.externalServers }}
{{- if .authorities.secretName }}
- {name: INFERMESH_{{ index $ 1 }}_EXTERNAL_CA, value: {{ printf "/etc/infermesh/external-ca/%s" .authorities.secretKey | quote }}}
{{- end }}
{{- if .credentials }}
- {name: INFERMESH_{{ index $ 1 }}_EXTERNAL_CREDENTIALS, value: /etc/infermesh/external-credentials}
{{- end }}
{{- end }}
{{- end -}}

{{- define "infermesh.external.mounts" -}}
{{- if .Values.externalServers.authorities.secretName }}
- {name: external-ca, mountPath: /etc/infermesh/external-ca, readOnly: true}
{{- end }}
{{- range $place, $team := keys .Values.externalServers.credentials | sortAlpha }}
- {name: external-credentials-{{ $place }}, mountPath: /etc/infermesh/external-credentials/{{ $team }}, readOnly: true}
{{- end }}
{{- end -}}

{{- define "infermesh.external.volumes" -}}
{{- with .Values.externalServers.authorities.secretName }}
- name: external-ca
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- range $place, $team := keys .Values.externalServers.credentials | sortAlpha }}
- name: external-credentials-{{ $place }}
  secret: {secretName: {{ get $.Values.externalServers.credentials $team }}, defaultMode: 0440}
{{- end }}
{{- end -}}

{{- define "infermesh.servingClaim" -}}
{{- .Values.serving.existingClaim | default (printf "%s-serving" (include "infermesh.fullname" .)) -}}
{{- end -}}

{{/* Where the claim of models is one that a single node mounts, all that mount it are put on one node. */}}
{{- define "infermesh.besideTheModels" -}}
{{- if eq .Values.serving.accessMode "ReadWriteOnce" }}
affinity:
  podAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            app.kubernetes.io/name: infermesh
            app.kubernetes.io/instance: {{ .Release.Name }}
          matchExpressions:
            - {key: app.kubernetes.io/component, operator: In, values: [deployer, triton]}
{{- end }}
{{- end -}}

{{/* ---- batch ---- */}}

{{- define "infermesh.batch.env" -}}
{{ include "infermesh.databaseEnv" (list . "batch") }}
- {name: INFERMESH_BATCH_DATA_DIR, value: /var/lib/infermesh}
- {name: INFERMESH_BATCH_REGISTRY_ADDRESS, value: {{ include "infermesh.address" (list . "registry") | quote }}}
- {name: INFERMESH_BATCH_AUTHENTICATION, value: {{ .Values.auth.enabled | quote }}}
{{- if .Values.gateway.tls.secretName }}
- {name: INFERMESH_BATCH_BATCHER_ADDRESS, value: {{ .Values.gateway.tls.address | quote }}}
- {name: INFERMESH_BATCH_BATCHER_TLS, value: {{ .Values.gateway.tls.trustSecret | ternary "/etc/infermesh/gateway-ca/ca.crt" "system" }}}
{{- else }}
- {name: INFERMESH_BATCH_BATCHER_ADDRESS, value: {{ include "infermesh.address" (list . "gateway") | quote }}}
{{- end }}
{{- if .Values.batch.cluster.enabled }}
{{ include "infermesh.batch.cluster" . }}
{{- end }}
{{- end -}}

{{/* What its workers in the namespaces of teams are told. */}}
{{- define "infermesh.batch.cluster" -}}
{{- $beyond := printf "%s.svc" .Release.Namespace -}}
- {name: INFERMESH_BATCH_CLUSTERS, value: {{ .Values.batch.cluster.name | quote }}}
- {name: INFERMESH_BATCH_CLUSTER_OWNER, value: {{ printf "%s.%s" .Release.Name .Release.Namespace | trunc 63 | trimSuffix "-" | trimSuffix "." | quote }}}
- {name: INFERMESH_BATCH_POD_IMAGE, value: {{ include "infermesh.image" (list . "services") | quote }}}
{{- with .Values.images.pullSecrets }}
- {name: INFERMESH_BATCH_POD_IMAGE_PULL_SECRETS, value: {{ join "," . | quote }}}
{{- end }}
- {name: INFERMESH_BATCH_POD_BATCH_ADDRESS, value: "{{ include "infermesh.name" (list . "batch") }}.{{ $beyond }}:8104"}
- {name: INFERMESH_BATCH_POD_REGISTRY_ADDRESS, value: "{{ include "infermesh.name" (list . "registry") }}.{{ $beyond }}:8101"}
{{- if .Values.gateway.tls.secretName }}
- {name: INFERMESH_BATCH_POD_BATCHER_ADDRESS, value: {{ .Values.gateway.tls.address | quote }}}
- {name: INFERMESH_BATCH_POD_BATCHER_TLS, value: {{ .Values.gateway.tls.trustSecret | ternary "secret" "system" }}}
{{- else }}
- {name: INFERMESH_BATCH_POD_BATCHER_ADDRESS, value: "{{ include "infermesh.name" (list . "gateway") }}.{{ $beyond }}:{{ .Values.gateway.service.port }}"}
{{- end }}
{{- if ne .Values.tls.mode "insecure" }}
- {name: INFERMESH_BATCH_POD_TLS_SECRET, value: {{ .Values.batch.cluster.tlsSecret }}}
{{- end }}
{{- end -}}

{{- define "infermesh.batch.pod" -}}{{- end -}}

{{- define "infermesh.batch.mounts" -}}
{{- if and .Values.gateway.tls.secretName .Values.gateway.tls.trustSecret }}
- {name: gateway-ca, mountPath: /etc/infermesh/gateway-ca, readOnly: true}
{{- end }}
{{- end -}}

{{- define "infermesh.batch.volumes" -}}
{{- if and .Values.gateway.tls.secretName .Values.gateway.tls.trustSecret }}
- name: gateway-ca
  secret:
    secretName: {{ .Values.gateway.tls.secretName }}
    items: [{key: ca.crt, path: ca.crt}]
    defaultMode: 0440
{{- end }}
{{- end -}}

{{/* ---- monitor ---- */}}

{{- define "infermesh.monitor.env" -}}
{{ include "infermesh.databaseEnv" (list . "monitor") }}
- {name: INFERMESH_MONITOR_DATA_DIR, value: /var/lib/infermesh}
- {name: INFERMESH_MONITOR_REGISTRY_ADDRESS, value: {{ include "infermesh.address" (list . "registry") | quote }}}
- {name: INFERMESH_MONITOR_ROUTER_ADDRESS, value: {{ include "infermesh.address" (list . "router") | quote }}}
- {name: INFERMESH_MONITOR_DEPLOYER_ADDRESS, value: {{ include "infermesh.address" (list . "deployer") | quote }}}
- name: INFERMESH_MONITOR_HOST_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
{{- end -}}

{{- define "infermesh.monitor.pod" -}}{{- end -}}
{{- define "infermesh.monitor.mounts" -}}{{- end -}}
{{- define "infermesh.monitor.volumes" -}}{{- end -}}

{{/* ---- limiter ---- */}}

{{- define "infermesh.limiter.env" -}}
- {name: INFERMESH_LIMITER_REGISTRY_ADDRESS, value: {{ include "infermesh.address" (list . "registry") | quote }}}
{{ include "infermesh.fromSecret" (list "INFERMESH_LIMITER_REDIS_URL" .Values.redis.cache) }}
{{- end -}}

{{- define "infermesh.limiter.pod" -}}{{- end -}}
{{- define "infermesh.limiter.mounts" -}}{{- end -}}
{{- define "infermesh.limiter.volumes" -}}{{- end -}}

{{/* ---- operator ---- */}}

{{- define "infermesh.operator.env" -}}
- {name: INFERMESH_OPERATOR_REGISTRY_ADDRESS, value: {{ include "infermesh.address" (list . "registry") | quote }}}
# Replicas are in the namespaces of teams.
{{- if .Values.gateway.tls.secretName }}
- {name: INFERMESH_OPERATOR_GATEWAY_ADDRESS_IN_PODS, value: {{ .Values.gateway.tls.address | quote }}}
- {name: INFERMESH_OPERATOR_GATEWAY_TLS, value: {{ .Values.gateway.tls.trustSecret | ternary "/etc/infermesh/gateway-ca/ca.crt" "system" }}}
{{- else }}
- {name: INFERMESH_OPERATOR_GATEWAY_ADDRESS_IN_PODS, value: "{{ include "infermesh.name" (list . "gateway") }}.{{ .Release.Namespace }}.svc:{{ .Values.gateway.service.port }}"}
{{- end }}
- {name: INFERMESH_OPERATOR_GATEWAY_PORT, value: "8080"}
- {name: INFERMESH_OPERATOR_ROUTER_ADDRESS, value: {{ include "infermesh.address" (list . "router") | quote }}}
- {name: INFERMESH_OPERATOR_FETCH_IMAGE, value: {{ include "infermesh.image" (list . "deployer") | quote }}}
- {name: INFERMESH_OPERATOR_SERVER_IMAGE, value: {{ include "infermesh.image" (list . "triton") | quote }}}
{{- with .Values.images.pullSecrets }}
- {name: INFERMESH_OPERATOR_IMAGE_PULL_SECRETS, value: {{ join "," . | quote }}}
{{- end }}
- {name: INFERMESH_OPERATOR_MESH_NAMESPACE, value: {{ .Release.Namespace }}}
- {name: INFERMESH_OPERATOR_LEASE_NAMESPACE, value: {{ .Release.Namespace }}}
- {name: INFERMESH_OPERATOR_LEASE_NAME, value: {{ include "infermesh.name" (list . "operator") }}}
{{- with .Values.triton.nativeBackends }}
- {name: INFERMESH_OPERATOR_NATIVE_BACKENDS, value: {{ join "," . | quote }}}
{{- end }}
{{- end -}}

{{- define "infermesh.operator.pod" -}}{{- end -}}
{{- define "infermesh.operator.mounts" -}}{{ include "infermesh.batch.mounts" . }}{{- end -}}
{{- define "infermesh.operator.volumes" -}}{{ include "infermesh.batch.volumes" . }}{{- end -}}
