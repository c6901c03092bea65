{{- define "operator.name" -}}
{{- if hasPrefix .Release.Name .Chart.Name }}{{ .Chart.Name }}{{ else if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "operator.account" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "operator.name" .) }}{{ else }}{{ required "serviceAccount.name: give the account that is there, or let one be made" .Values.serviceAccount.name }}{{ end }}
{{- end }}

{{- define "operator.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "operator.labels" -}}
{{ include "operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* Of what Prometheus' operator is to find: it selects by labels of its own. */ -}}
{{- define "operator.monitored" -}}
{{- with .Values.metrics.labels }}
{{- toYaml . }}
{{ end }}
{{- include "operator.labels" . }}
{{- end }}

{{- /* ClusterRole of whoever may review tokens, and its binding, whose subjects the operator keeps. */ -}}
{{- define "operator.tokenReview" -}}
{{ include "operator.name" . | trunc 50 | trimSuffix "-" }}-token-review
{{- end }}

{{- define "operator.image" -}}
{{ .Values.image.repository }}{{ if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- /* What the operator does with each kind; in a Role per namespace, or in one ClusterRole. */ -}}
{{- define "operator.rules" -}}
- apiGroups: [lockmaster.dev]
  resources: [lockclusters]
  verbs: [get, list, watch]
- apiGroups: [lockmaster.dev]
  resources: [lockclusters/status]
  verbs: [update]
- apiGroups: [lockmaster.dev]
  resources: [lockclusters/finalizers]  # owner references that block deletion, where admission asks for it
  verbs: [update]
- apiGroups: [lockmaster.dev]
  resources: [configsets]
  verbs: [get, list, watch, update]  # update: its own finalizer
- apiGroups: [lockmaster.dev]
  resources: [configsets/status]
  verbs: [update]
- apiGroups: [lockmaster.dev]
  resources: [lockbackups, lockrestores, quorumrecoveries]
  verbs: [get, list, watch]
- apiGroups: [lockmaster.dev]
  resources: [lockbackups/status, lockrestores/status, quorumrecoveries/status]
  verbs: [update]
- apiGroups: [lockmaster.dev]
  resources: [lockbackups/finalizers, lockrestores/finalizers, quorumrecoveries/finalizers]  # as above, of their Jobs
  verbs: [update]
- apiGroups: [lockmaster.dev]
  resources: [locks]  # kubectl get locks, where spec.lockProjection is on
  verbs: [list, create, delete]
- apiGroups: [lockmaster.dev]
  resources: [locks/status]
  verbs: [update]
- apiGroups: [batch]
  resources: [jobs]  # backups, restores, recoveries
  verbs: [list, create, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch, delete]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create, patch, delete]  # create: the first volume of a cluster that is restored
- apiGroups: [""]
  resources: [services, configmaps]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, list, create, patch]
- apiGroups: [""]
  resources: [secrets]  # by name: it can't list them
  verbs: [get, create, patch]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [list, create]
{{- if .Values.certManager }}
- apiGroups: [cert-manager.io]
  resources: [certificates]
  verbs: [get, list, create, patch]
{{- end }}
{{- end }}
