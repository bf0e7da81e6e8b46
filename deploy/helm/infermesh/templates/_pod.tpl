{{/* What pods and containers have in common: who they run as, what they mount, how they are spread and probed. */}}

{{/* The head of a pod's spec. Takes a list: the root, the component, its values. */}}
{{- define "infermesh.pod" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}{{- $values := index . 2 -}}
serviceAccountName: {{ include "infermesh.name" (list $root $component) }}
automountServiceAccountToken: {{ or (eq $component "operator") (and (eq $component "deployer") $root.Values.operator.enabled) (and (eq $component "batch") $root.Values.batch.cluster.enabled) }}
# Kubernetes would tell INFERMESH_REGISTRY_PORT=tcp://… of a Service called infermesh-registry.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with $root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "infermesh.selector" (list $root $component) | nindent 8 }}
  {{- end }}
{{- end -}}

{{- define "infermesh.podMetadata" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}{{- $values := index . 2 -}}
labels:
  {{- include "infermesh.labels" (list $root $component) | nindent 2 }}
  {{- with $values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  kubectl.kubernetes.io/default-container: {{ $component }}
  {{- if ne $root.Values.tls.mode "insecure" }}
  # Channels read their certificates once. A tool that watches Secrets starts the pods again by this.
  secret.reloader.stakater.com/reload: {{ include "infermesh.tlsSecret" (list $root $component) }}
  {{- end }}
  {{- with $values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "infermesh.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
terminationMessagePolicy: FallbackToLogsOnError
{{- end -}}

{{/* A variable for each of `settings`, a map by field. Takes a list: the service, the map. */}}
{{- define "infermesh.settings" -}}
{{- $service := index . 0 -}}
{{- range $field, $value := index . 1 }}
- name: {{ printf "INFERMESH_%s_%s" $service $field | upper }}
  {{- if or (kindIs "map" $value) (kindIs "slice" $value) }}
  value: {{ $value | toJson | quote }}
  {{- else if kindIs "float64" $value }}
  # Helm reads whole numbers as floating-point ones, and would print large ones as 1e+06.
  value: {{ ternary (printf "%d" (int64 $value)) (toString $value) (eq $value (floor $value)) | quote }}
  {{- else }}
  value: {{ $value | toString | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "infermesh.fromSecret" -}}
- name: {{ index . 0 }}
  valueFrom: {secretKeyRef: {name: {{ (index . 1).secretName }}, key: {{ (index . 1).secretKey }}}}
{{- end -}}

{{/* What every process of ours is told: who it is, and where it listens. Takes a list: the root, the service, whether
others reach it. */}}
{{- define "infermesh.commonEnv" -}}
{{- $root := index . 0 -}}{{- $service := index . 1 | upper -}}
- name: INFERMESH_{{ $service }}_INSTANCE
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: INFERMESH_{{ $service }}_LOG_LEVEL
  value: {{ $root.Values.logLevel }}
{{- if index . 2 }}
- name: INFERMESH_{{ $service }}_HOST
  value: 0.0.0.0
{{- if eq $root.Values.tls.mode "insecure" }}
- name: INFERMESH_{{ $service }}_INSECURE
  value: "true"
{{- end }}
{{- with $root.Values.telemetry.otlpEndpoint }}
- name: INFERMESH_{{ $service }}_OTLP_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- if ne $root.Values.tls.mode "insecure" }}
- name: INFERMESH_{{ $service }}_TLS_DIR
  value: /etc/infermesh/tls
{{- end }}
{{- end -}}

{{- define "infermesh.extraEnv" -}}
{{- with .extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "infermesh.tlsSecret" -}}
{{- printf "%s-tls" (include "infermesh.name" .) -}}
{{- end -}}

{{/* Takes the root. */}}
{{- define "infermesh.tlsMount" -}}
{{- if ne .Values.tls.mode "insecure" }}
- {name: tls, mountPath: /etc/infermesh/tls, readOnly: true}
{{- end }}
{{- end -}}

{{/* Takes a list: the root, the component. */}}
{{- define "infermesh.tlsVolume" -}}
{{- if ne (index . 0).Values.tls.mode "insecure" }}
- name: tls
  secret: {secretName: {{ include "infermesh.tlsSecret" . }}, defaultMode: 0440}
{{- end }}
{{- end -}}

{{/* Probes of a service of ours: over HTTP beside its metrics, since the kubelet has no certificate of the mesh. What
they say is what gRPC's health service says. A start may migrate a database first. */}}
{{- define "infermesh.probes" -}}
startupProbe:
  httpGet: {path: /health, port: metrics}
  periodSeconds: 2
  failureThreshold: 300
readinessProbe:
  httpGet: {path: /ready, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 2
livenessProbe:
  httpGet: {path: /health, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
{{- end -}}

{{/* The claim of a StatefulSet's own data. Takes a list: the root, the component, its values of persistence. */}}
{{- define "infermesh.claims" -}}
{{- $root := index . 0 -}}{{- $persistence := index . 2 -}}
{{- if and $persistence.enabled (not $persistence.existingClaim) }}
persistentVolumeClaimRetentionPolicy: {whenDeleted: Retain, whenScaled: {{ $persistence.whenScaled | default "Retain" }}}
volumeClaimTemplates:
  - apiVersion: v1
    kind: PersistentVolumeClaim
    metadata:
      name: data
      labels:
        {{- include "infermesh.selector" (list $root (index . 1)) | nindent 8 }}
    spec:
      accessModes: [ReadWriteOnce]
      {{- with $persistence.storageClass }}
      storageClassName: {{ . }}
      {{- end }}
      resources: {requests: {storage: {{ $persistence.size }}}}
{{- end }}
{{- end -}}

{{/* The volume of the same, where it is no claim template. */}}
{{- define "infermesh.dataVolume" -}}
{{- if .existingClaim }}
- name: data
  persistentVolumeClaim: {claimName: {{ .existingClaim }}}
{{- else if not .enabled }}
- name: data
  emptyDir: {sizeLimit: {{ .size }}}
{{- end }}
{{- end -}}
