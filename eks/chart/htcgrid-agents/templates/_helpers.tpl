{{- define "htcgrid.labels" -}}
{{ include "htcgrid.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: htcgrid
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
htcgrid/partition: {{ .Values.partition }}
{{- end }}

{{- define "htcgrid.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: agent
{{- end }}

{{- define "htcgrid.serviceAccountName" -}}
{{- if .Values.serviceAccount.name }}{{ .Values.serviceAccount.name }}
{{- else if .Values.serviceAccount.create }}{{ .Release.Name }}
{{- else }}{{ fail "serviceAccount.name: name the service account that is there, or let serviceAccount.create be true." }}
{{- end }}
{{- end }}

{{- define "htcgrid.priorityClassName" -}}
{{- if .Values.priorityClass.name }}{{ .Values.priorityClass.name }}
{{- else if .Values.priorityClass.create }}{{ printf "%s-%s" .Release.Namespace .Release.Name }}
{{- end }}
{{- end }}

{{- /* Variables of an environment from a map of names to values. */}}
{{- define "htcgrid.environment" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{- define "htcgrid.securityContext" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsGroup: 10000
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- /* What the agent writes after its grace period is over, in seconds. */}}
{{- define "htcgrid.writeSeconds" -}}30{{- end }}

{{- define "htcgrid.dataFolder" -}}/var/cache/htcgrid{{- end }}

{{- define "htcgrid.workerMemory" -}}
{{- $most := .Values.worker.maxMemory | default .Values.worker.minMemory | int }}
{{- if lt $most (int .Values.worker.minMemory) }}
{{- fail (printf "worker.maxMemory: %d MiB are less than the %d MiB of worker.minMemory." $most (int .Values.worker.minMemory)) }}
{{- end }}
{{- $most }}
{{- end }}

{{- define "htcgrid.workerCPU" -}}
{{- with .Values.worker.maxCPU }}
{{- if lt (int .) (int $.Values.worker.minCPU) }}
{{- fail (printf "worker.maxCPU: %d thousandths of a processor are less than the %d of worker.minCPU." (int .) (int $.Values.worker.minCPU)) }}
{{- end }}
{{- int . }}
{{- end }}
{{- end }}

{{- /* Memory of a place, as the handler sees it. */}}
{{- define "htcgrid.functionMemory" -}}
{{- max 128 (div (include "htcgrid.workerMemory" . | int) (int .Values.worker.count)) }}
{{- end }}

{{- define "htcgrid.checkRegion" -}}
{{- range $priority, $url := .Values.grid.taskQueueUrls }}
{{- $region := regexReplaceAll "^https://sqs\\.([a-z0-9-]+)\\.amazonaws\\.com.*$" $url "${1}" }}
{{- if not (or (eq $region $url) (eq $region $.Values.region)) }}
{{- fail (printf "region: %s is not that of grid.taskQueueUrls.%s, which is in %s." $.Values.region $priority $region) }}
{{- end }}
{{- end }}
{{- end }}
