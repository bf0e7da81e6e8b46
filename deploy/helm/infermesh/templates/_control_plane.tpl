{{/*
A service of the control plane: its account, its Service, and its pods. Takes a list: the root, the component, its kind
(StatefulSet or Deployment). The template infermesh.<component>.env has what it alone is told,
infermesh.<component>.pod, .mounts and .volumes what it alone has; the last three are empty for most.
*/}}
{{- define "infermesh.controlPlane" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}{{- $kind := index . 2 -}}
{{- $values := get $root.Values $component -}}
{{- $facts := get (include "infermesh.facts" $root | fromYaml) $component -}}
{{- $stateful := eq $kind "StatefulSet" -}}
{{- $persistence := $values.persistence | default dict -}}
{{- if eq $component "deployer" -}}
{{- $persistence = dict "existingClaim" (include "infermesh.servingClaim" $root) -}}
{{- end -}}
{{- $image := eq $component "deployer" | ternary "deployer" "services" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "infermesh.metadata" (list $root $component) | nindent 2 }}
  {{- with $values.serviceAccountAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
---
apiVersion: v1
kind: Service
metadata:
  {{- include "infermesh.metadata" (list $root $component) | nindent 2 }}
spec:
  selector:
    {{- include "infermesh.selector" (list $root $component) | nindent 4 }}
  ports:
    - {name: grpc, port: {{ $facts.port }}, targetPort: grpc, protocol: TCP, appProtocol: kubernetes.io/h2c}
    - {name: metrics, port: {{ $facts.metrics }}, targetPort: metrics, protocol: TCP, appProtocol: http}
---
apiVersion: apps/v1
kind: {{ $kind }}
metadata:
  {{- include "infermesh.metadata" (list $root $component) | nindent 2 }}
spec:
  replicas: {{ $values.replicas | default 1 }}
  revisionHistoryLimit: 3
  {{- if $stateful }}
  serviceName: {{ include "infermesh.name" (list $root $component) }}
  podManagementPolicy: Parallel
  {{- include "infermesh.claims" (list $root $component $persistence) | nindent 2 }}
  {{- else }}
  strategy:
    rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
  {{- end }}
  selector:
    matchLabels:
      {{- include "infermesh.selector" (list $root $component) | nindent 6 }}
  template:
    metadata:
      {{- include "infermesh.podMetadata" (list $root $component $values) | nindent 6 }}
    spec:
      {{- include "infermesh.pod" (list $root $component $values) | nindent 6 }}
      {{- include (printf "infermesh.%s.pod" $component) $root | nindent 6 }}
      # The service stops within shutdown_grace_s, 8 s, after callers had the time to hear that it leaves.
      terminationGracePeriodSeconds: 30
      containers:
        - name: {{ $component }}
          image: {{ include "infermesh.image" (list $root $image) }}
          imagePullPolicy: {{ $root.Values.images.pullPolicy }}
          args: [services.{{ $component }}]
          {{- include "infermesh.containerSecurity" . | nindent 10 }}
          env:
            {{- include "infermesh.commonEnv" (list $root $component true) | nindent 12 }}
            - {name: INFERMESH_{{ upper $component }}_PORT, value: {{ $facts.port | quote }}}
            - {name: INFERMESH_{{ upper $component }}_METRICS_PORT, value: {{ $facts.metrics | quote }}}
            {{- include (printf "infermesh.%s.env" $component) $root | nindent 12 }}
            {{- include "infermesh.settings" (list $component $values.settings) | nindent 12 }}
            {{- include "infermesh.extraEnv" $values | nindent 12 }}
          {{- with $values.envFromSecrets }}
          envFrom:
            {{- range . }}
            - secretRef: {name: {{ . }}}
            {{- end }}
          {{- end }}
          ports:
            - {name: grpc, containerPort: {{ $facts.port }}, protocol: TCP}
            - {name: metrics, containerPort: {{ $facts.metrics }}, protocol: TCP}
          {{- include "infermesh.probes" $root | nindent 10 }}
          lifecycle:
            preStop: {sleep: {seconds: 3}}
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            {{- if $stateful }}
            - {name: data, mountPath: /var/lib/infermesh}
            {{- end }}
            {{- include "infermesh.tlsMount" $root | nindent 12 }}
            {{- include (printf "infermesh.%s.mounts" $component) $root | nindent 12 }}
            {{- with $values.extraVolumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        - name: tmp
          emptyDir: {}
        {{- if $stateful }}
        {{- include "infermesh.dataVolume" $persistence | nindent 8 }}
        {{- end }}
        {{- include "infermesh.tlsVolume" (list $root $component) | nindent 8 }}
        {{- include (printf "infermesh.%s.volumes" $component) $root | nindent 8 }}
        {{- with $values.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end -}}
