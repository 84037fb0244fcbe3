{{- /* Metadata and specification of an agent's pod, for the Deployment and the ScaledJob. */}}
{{- define "htcgrid.pod" -}}
metadata:
  labels:
    {{- include "htcgrid.selectorLabels" . | nindent 4 }}
    htcgrid/partition: {{ .Values.partition }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    {{- include "htcgrid.podAnnotations" . | nindent 4 }}
spec:
  {{- if eq .Values.mode "job" }}
  restartPolicy: Never
  {{- end }}
  serviceAccountName: {{ include "htcgrid.serviceAccountName" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  shareProcessNamespace: false
  {{- with include "htcgrid.priorityClassName" . }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  terminationGracePeriodSeconds: {{ add .Values.longestTaskSeconds (include "htcgrid.writeSeconds" . | int) }}
  securityContext:
    runAsNonRoot: true
    fsGroup: 10000
    seccompProfile:
      type: RuntimeDefault
  initContainers:
    {{- if .Values.function.location }}
    - {{ include "htcgrid.fetchFunction" . | indent 6 | trim }}
    {{- end }}
    {{- if .Values.worker.command }}
    - {{ include "htcgrid.copyEntrypoint" . | indent 6 | trim }}
    {{- end }}
    - {{ include "htcgrid.worker" . | indent 6 | trim }}
  containers:
    - {{ include "htcgrid.agent" . | indent 6 | trim }}
  volumes:
    {{- include "htcgrid.volumes" . | nindent 4 }}
  {{- include "htcgrid.scheduling" . | trim | nindent 2 }}
{{- end }}

{{- define "htcgrid.podAnnotations" -}}
kubectl.kubernetes.io/default-container: agent
{{ include "htcgrid.credentials.podAnnotations" . }}
{{- if or (eq .Values.mode "job") (ge (int .Values.longestTaskSeconds) (int .Values.scheduling.doNotDisruptFromSeconds)) }}
karpenter.sh/do-not-disrupt: "true"
{{- end }}
{{- if .Values.metrics.annotations }}
prometheus.io/scrape: "true"
prometheus.io/port: "8080"
prometheus.io/path: /metrics
{{- end }}
{{- with .Values.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "htcgrid.volumes" -}}
- name: workers
  emptyDir:
    medium: Memory
    sizeLimit: 1Mi
- name: worker-tmp
  emptyDir:
    sizeLimit: {{ int .Values.worker.tmpSize }}Mi
- name: agent-tmp
  emptyDir:
    sizeLimit: {{ int .Values.agent.tmpSize }}Mi
- name: data
  {{- if .Values.sharedData.hostPath }}
  hostPath:
    path: {{ .Values.sharedData.hostPath }}
    type: Directory
  {{- else }}
  {{- /* A quarter more, for what is being fetched. */}}
  emptyDir:
    sizeLimit: {{ div (mul 5 (int .Values.sharedData.megabytes)) 4 }}Mi
  {{- end }}
{{- with .Values.grid.fileSystem.claim }}
- name: payloads
  persistentVolumeClaim:
    claimName: {{ . }}
{{- end }}
{{- if .Values.function.location }}
- name: function
  emptyDir:
    sizeLimit: {{ int .Values.function.size }}Mi
{{- end }}
{{- if .Values.worker.command }}
- name: entrypoint
  emptyDir:
    sizeLimit: 1Mi
{{- end }}
{{- include "htcgrid.credentials.volumes" . }}
{{- end }}
