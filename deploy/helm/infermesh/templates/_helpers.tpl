{{/* Names, labels, images: what every template says the same way. */}}

{{- define "infermesh.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains "infermesh" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-infermesh" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What a component's objects are called. Takes a list: the root, the component. */}}
{{- define "infermesh.name" -}}
{{- printf "%s-%s" (include "infermesh.fullname" (index . 0)) (index . 1) -}}
{{- end -}}

{{/* host:port at which others reach a component. Takes a list: the root, the component. */}}
{{- define "infermesh.address" -}}
{{- $facts := include "infermesh.facts" (index . 0) | fromYaml -}}
{{- printf "%s:%v" (include "infermesh.name" .) (get $facts (index . 1)).port -}}
{{- end -}}

{{/* The labels by which a release's pods are found; they never change. Takes a list: the root, the component. */}}
{{- define "infermesh.selector" -}}
app.kubernetes.io/name: infermesh
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "infermesh.labels" -}}
{{- $root := index . 0 -}}
{{ include "infermesh.selector" . }}
app.kubernetes.io/part-of: infermesh
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "infermesh.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "infermesh.name" . }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "infermesh.labels" . | nindent 2 }}
{{- end -}}

{{/* Takes a list: the root, one of services, gateway, triton, deployer. */}}
{{- define "infermesh.image" -}}
{{- $root := index . 0 -}}
{{- $image := get $root.Values.images (index . 1) -}}
{{- $name := $image.repository -}}
{{- with $root.Values.images.registry -}}{{- $name = printf "%s/%s" . $name -}}{{- end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name ($image.tag | default $root.Values.images.tag | default $root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* The components that this release has, as a YAML list. */}}
{{- define "infermesh.components" -}}
{{- $here := list "registry" "router" "deployer" "batch" "monitor" "gateway" "triton" -}}
{{- if not .Values.gateway.carriesBatcher -}}{{- $here = append $here "batcher" -}}{{- end -}}
{{- if .Values.limiter.enabled -}}{{- $here = append $here "limiter" -}}{{- end -}}
{{- if .Values.operator.enabled -}}{{- $here = append $here "operator" -}}{{- end -}}
{{- toYaml $here -}}
{{- end -}}

{{/*
What is fixed about each component: its port, the port of its metrics, whom of the mesh it calls, and what beyond the
mesh. Services, certificates, monitors and network policies all follow from it.
*/}}
{{- define "infermesh.facts" -}}
registry: {port: 8101, metrics: 8201, calls: [deployer], beyond: [database, objectStore]}
router: {port: 8102, metrics: 8202, calls: [registry, deployer, batch, monitor, {{ .Values.gateway.carriesBatcher | ternary "gateway" "batcher" }}], beyond: [database]}
deployer: {port: 8103, metrics: 8203, calls: [registry, router, triton], beyond: {{ .Values.operator.enabled | ternary "[database, packages, external, kubernetes, models]" "[database, packages, external]" }}}
batch: {port: 8104, metrics: 8204, calls: [registry, gateway], beyond: {{ .Values.batch.cluster.enabled | ternary "[database, objectStore, notifications, kubernetes]" "[database, objectStore, notifications]" }}}
monitor: {port: 8105, metrics: 8205, calls: [registry, router, deployer], beyond: [database, notifications]}
limiter: {port: 8106, metrics: 8206, calls: [registry], beyond: [redis]}
operator: {port: 8107, metrics: 8207, calls: [registry, router], beyond: [kubernetes]}
batcher: {port: 8110, metrics: 8110, calls: [registry, router, deployer, monitor, triton], beyond: [redis, models, external]}
gateway: {port: {{ .Values.gateway.service.port }}, metrics: {{ .Values.gateway.carriesBatcher | ternary 8110 0 }}, calls: [registry, router, deployer, batch, monitor, limiter, {{ .Values.gateway.carriesBatcher | ternary "triton" "batcher" }}], beyond: {{ .Values.gateway.carriesBatcher | ternary "[redis, models, external, issuers]" "[issuers]" }}}
triton: {port: 8000, metrics: 8002, calls: [], beyond: []}
{{- end -}}

{{/* Words that stop an installation which could only fail later, and then say less. */}}
{{- define "infermesh.check" -}}
{{- $values := .Values -}}
{{- if not $values.database.secretName -}}
{{- fail "database.secretName: name a Secret of this namespace whose key database.secretKey holds the URL of PostgreSQL, postgresql+psycopg://user:password@host:5432/database" -}}
{{- end -}}
{{- if and (gt (int $values.registry.replicas) 1) (not $values.artifacts.uri) -}}
{{- fail "registry.replicas: several registries need artifacts in a bucket (artifacts.uri: s3://… or gs://…); with artifacts on its own disk there can be one" -}}
{{- end -}}
{{- if and (gt (int $values.registry.replicas) 1) (not $values.auth.signingKey.secretName) -}}
{{- fail "registry.replicas: several registries sign with one key; name the Secret that has it in auth.signingKey.secretName" -}}
{{- end -}}
{{- if and (gt (int $values.batch.replicas) 1) (not $values.batch.persistence.existingClaim) -}}
{{- fail "batch.replicas: several batch services share their folder of parts; name a ReadWriteMany claim in batch.persistence.existingClaim" -}}
{{- end -}}
{{- if and $values.batch.cluster.enabled (ne $values.tls.mode "insecure") (not $values.batch.cluster.tlsSecret) -}}
{{- fail "batch.cluster.tlsSecret: name the Secret of teams' namespaces with a certificate of the mesh, by which workers speak to batch and registry" -}}
{{- end -}}
{{- if and $values.limiter.enabled (not $values.redis.cache.secretName) -}}
{{- fail "limiter.enabled: limiters count in Redis; name the Secret with its URL in redis.cache.secretName" -}}
{{- end -}}
{{- if and $values.gateway.tls.secretName (not $values.gateway.tls.address) -}}
{{- fail "gateway.tls.address: host:port with a name that the certificate of gateway.tls.secretName has, by which the batch service and the replicas of teams reach the gateway" -}}
{{- end -}}
{{- if and (eq $values.tls.mode "cert-manager") (not (.Capabilities.APIVersions.Has "cert-manager.io/v1")) (not $values.tls.assumeCertManager) -}}
{{- fail "tls.mode: cert-manager is not installed in this cluster (no cert-manager.io/v1); install it, set tls.mode to existing and bring the Secrets, or set tls.assumeCertManager where this is rendered without a cluster" -}}
{{- end -}}
{{- range $part := list "serviceMonitors" "rules" -}}
{{- $asked := get $values.monitoring $part -}}
{{- if and $asked.enabled (not ($.Capabilities.APIVersions.Has "monitoring.coreos.com/v1")) (not $asked.assumed) -}}
{{- fail (printf "monitoring.%s.enabled: the Prometheus operator is not installed in this cluster (no monitoring.coreos.com/v1); install it, turn this off, or set monitoring.%s.assumed where this is rendered without a cluster" $part $part) -}}
{{- end -}}
{{- end -}}
{{- end -}}
