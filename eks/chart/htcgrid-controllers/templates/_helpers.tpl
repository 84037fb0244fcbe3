{{- define "htcgrid.commonLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: htcgrid
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "htcgrid.deletionCost.labels" -}}
{{ include "htcgrid.commonLabels" . }}
app.kubernetes.io/component: deletion-cost
{{- end }}

{{- define "htcgrid.deletionCost.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: deletion-cost
{{- end }}

{{- define "htcgrid.nodeDrainer.labels" -}}
{{ include "htcgrid.commonLabels" . }}
app.kubernetes.io/component: node-drainer
{{- end }}

{{- define "htcgrid.deletionCost.name" -}}
{{ .Release.Name }}-deletion-cost
{{- end }}

{{- define "htcgrid.deletionCost.agentSelector" -}}
{{- $terms := list }}
{{- range $name, $value := .Values.deletionCost.agentLabels }}{{ $terms = append $terms (printf "%s=%s" $name $value) }}{{ end }}
{{- join "," $terms }}
{{- end }}
