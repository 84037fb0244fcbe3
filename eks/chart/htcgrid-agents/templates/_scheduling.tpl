{{- define "htcgrid.scheduling" -}}
{{- with .Values.scheduling.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
nodeSelector:
  kubernetes.io/os: linux
  {{- with .Values.scheduling.nodeSelector }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.scheduling.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "htcgrid.affinity" . | fromYaml }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.scheduling.topologySpread }}
topologySpreadConstraints:
  {{- range . }}
  - topologyKey: {{ .topologyKey }}
    maxSkew: {{ int .maxSkew }}
    whenUnsatisfiable: {{ .whenUnsatisfiable }}
    labelSelector:
      matchLabels:
        {{- include "htcgrid.selectorLabels" $ | nindent 8 }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "htcgrid.affinity" -}}
{{- $affinity := deepCopy .Values.scheduling.affinity }}
{{- if ne .Values.scheduling.spot "any" }}
{{- if hasKey $affinity "nodeAffinity" }}
{{- fail "scheduling.affinity.nodeAffinity: set scheduling.spot to any as well, since the two say where the pods may run." }}
{{- end }}
{{- $_ := set $affinity "nodeAffinity" (include "htcgrid.spotAffinity" . | fromYaml) }}
{{- end }}
{{- toYaml $affinity }}
{{- end }}

{{- /* Karpenter and managed node groups say in labels of their own whether a node is a spot instance. */}}
{{- define "htcgrid.spotAffinity" -}}
{{- $spot := ne .Values.scheduling.spot "avoid" }}
{{- $karpenter := dict "key" "karpenter.sh/capacity-type" "operator" "In" "values" (list (ternary "spot" "on-demand" $spot)) }}
{{- $group := dict "key" "eks.amazonaws.com/capacityType" "operator" "In" "values" (list (ternary "SPOT" "ON_DEMAND" $spot)) }}
{{- if eq .Values.scheduling.spot "prefer" }}
preferredDuringSchedulingIgnoredDuringExecution:
  {{- range list $karpenter $group }}
  - weight: 100
    preference:
      matchExpressions: {{ list . | toJson }}
  {{- end }}
{{- else }}
requiredDuringSchedulingIgnoredDuringExecution:
  nodeSelectorTerms:
    {{- range list $karpenter $group }}
    - matchExpressions: {{ list . | toJson }}
    {{- end }}
{{- end }}
{{- end }}
