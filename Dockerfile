# One image for every part of Airflow and for the simulators. Built by docker-compose.yaml.
# requirements.txt is locked for this minor version of Python.
FROM python:3.11-slim-bookworm

# A fixed uid: volumes and bind mounts must be readable by the same user after a rebuild.
RUN groupadd --gid 10001 airflow \
    && useradd --uid 10001 --gid airflow --create-home --shell /usr/sbin/nologin airflow \
    # A new named volume takes its owner from the folder that it is mounted on.
    && install -d -o airflow -g airflow \
        /opt/airflow /opt/airflow/logs \
        /var/lib/threat-response /var/lib/threat-response/archive \
        /var/lib/threat-response/xcom /var/lib/threat-response/demo

WORKDIR /opt/threat-response

# Before the code, so that a change of code does not install everything anew.
COPY requirements.txt ./
RUN pip install --no-cache-dir --requirement requirements.txt

COPY pyproject.toml LICENSE ./
COPY plugins plugins
COPY include include
COPY dags dags
# Editable: Airflow learns our connection types from the installed distribution, and there is still one copy of the code.
RUN pip install --no-cache-dir --no-deps --editable .

# The project's root is not on sys.path otherwise (dags/ and plugins/ are added by Airflow).
ENV AIRFLOW_HOME=/opt/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/threat-response/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/threat-response/plugins \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    PYTHONPATH=/opt/threat-response:/opt/threat-response/plugins \
    THREAT_RESPONSE_HOME=/var/lib/threat-response
# The index of the never-block lists: without it, each process would build its own.
RUN python -c "from include.soar.gate.index_file import shipped; shipped()"

USER airflow
