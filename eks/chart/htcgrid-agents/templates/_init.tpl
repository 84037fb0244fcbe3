{{- /* Unpacks the function for the worker, which sees it read-only. */}}
{{- define "htcgrid.fetchFunction" -}}
name: fetch-function
command: [htcgrid-fetch-function]
args:
  - --location={{ .Values.function.location }}
  - --sha256={{ .Values.function.sha256 }}
  - --into=/var/task
env:
  {{- include "htcgrid.credentials.environment" . | nindent 2 }}
{{- include "htcgrid.init.container" . | nindent 0 }}
volumeMounts:
  - name: function
    mountPath: /var/task
  - name: agent-tmp
    mountPath: /tmp
  {{- include "htcgrid.credentials.mounts" . | indent 2 }}
{{- end }}

{{- /* Gives images that are not ours the program that keeps workers running. */}}
{{- define "htcgrid.copyEntrypoint" -}}
name: copy-entrypoint
command: [cp, /opt/htcgrid/worker_entrypoint.sh, /run/htcgrid/entrypoint/worker_entrypoint.sh]
{{- include "htcgrid.init.container" . | nindent 0 }}
volumeMounts:
  - name: entrypoint
    mountPath: /run/htcgrid/entrypoint
{{- end }}

{{- define "htcgrid.init.container" -}}
image: {{ .Values.agent.image }}
imagePullPolicy: {{ .Values.agent.imagePullPolicy }}
resources:
  requests:
    cpu: {{ int .Values.agent.cpu }}m
    memory: {{ int .Values.agent.memory }}Mi
  limits:
    memory: {{ int .Values.agent.memory }}Mi
securityContext:
  {{- include "htcgrid.securityContext" . | nindent 2 }}
  runAsUser: 10001
{{- end }}
