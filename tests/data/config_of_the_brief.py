"""Configuration as the brief shows it, word for word: it must go on working."""

import os

# Example of setting custom alert thresholds
ALERT_THRESHOLDS = {
    'security': {
        'authentication_failures': {'warning': 5, 'critical': 10},
        'token_validation_failures': {'warning': 5, 'critical': 10}
    },
    'performance': {
        'api_response_time': {'warning': 300, 'critical': 500}
    }
}

NOTIFICATION_CHANNELS = {
    'critical': ['pagerduty', 'slack', 'email'],
    'warning': ['slack', 'email'],
    'info': ['slack']
}

CHANNEL_CONFIG = {
    'slack': {
        'webhook_url': os.environ.get('SLACK_WEBHOOK_URL', ''),
        'channel': '#payment-api-alerts',
        'username': 'Monitoring Bot'
    },
    'pagerduty': {
        'service_key': os.environ.get('PAGERDUTY_SERVICE_KEY', ''),
        'client': 'Payment API Monitoring'
    },
    'email': {
        'recipients': os.environ.get('EMAIL_RECIPIENTS', '').split(','),
        'sender': 'monitoring@example.com',
        'smtp_server': 'smtp.example.com'
    }
}

ALERT_MANAGER = {
    'url': 'http://alertmanager:9093/api/v1/alerts',
    'enabled': True
}
